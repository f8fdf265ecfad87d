"""BentoML, in its own environment."""
