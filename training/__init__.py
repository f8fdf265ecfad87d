"""Training: model, losses, data, train loop and evaluation."""

from measure import telemetry as telemetry  # before the first import of a library that reports its use
