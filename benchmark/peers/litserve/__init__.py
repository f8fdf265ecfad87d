"""LitServe, in its own environment."""
