"""Running Triton: on this machine, in a container and in Kubernetes; and monitoring it."""
