"""NVIDIA's perf_analyzer beside Locust, on the same server at the same moments."""
