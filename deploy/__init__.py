"""How Triton is run."""
