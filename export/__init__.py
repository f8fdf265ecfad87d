"""Export: from a checkpoint to a release in a Triton model repository."""
