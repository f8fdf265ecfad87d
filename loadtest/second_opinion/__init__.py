"""A second opinion by NVIDIA's perf_analyzer, on the same server with the same timing."""
