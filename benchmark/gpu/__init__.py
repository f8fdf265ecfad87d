"""Everything that waits for a GPU, in stages of a few minutes; on a CPU the same stages run at tiny size."""
