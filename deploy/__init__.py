"""Run Triton on this machine, in a container or in Kubernetes, and monitor it."""
