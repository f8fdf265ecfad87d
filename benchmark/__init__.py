"""Benchmarks of the design choices, and comparisons with other model servers."""
