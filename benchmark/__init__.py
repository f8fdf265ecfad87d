"""Benchmarks of the design choices (split, precision, cache, image decoding, client) and of other model servers."""
