"""Run Triton on this machine, in a container or in Kubernetes, and monitor it."""

from measure import telemetry as telemetry  # before the first import of a library that reports its use
