"""Export: turns a checkpoint into a release in a Triton model repository."""

from measure import telemetry as telemetry  # before the first import of a library that reports its use
