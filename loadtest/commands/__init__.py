"""Commands of `python -m loadtest`, one file each."""
