"""A plain FastAPI server with PyTorch, in this environment."""
