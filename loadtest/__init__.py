"""Load tests against a running Triton. A run passes through `commands`, `load`, `run`, `judge` and `report`."""
