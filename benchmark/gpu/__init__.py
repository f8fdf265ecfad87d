"""Measurements that need a GPU, in stages of a few minutes; the same stages run at tiny size on a CPU."""
