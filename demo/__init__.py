"""The whole path, in a few minutes, on small generated data."""
