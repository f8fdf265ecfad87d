"""Triton as a container: the image, its probes, and a compose file."""
