"""Benchmarks of the design choices, and comparisons with other model servers."""

from measure import telemetry as telemetry  # before the first import of a library that reports its use
