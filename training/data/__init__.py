"""Data sets: the manifest, histories, batches, and the generator of a synthetic one."""
