"""Load tests against a running Triton."""
