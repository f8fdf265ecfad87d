"""Export: turns a checkpoint into a release in a Triton model repository."""
