"""Triton in a container: the image, its probes and a compose file."""
