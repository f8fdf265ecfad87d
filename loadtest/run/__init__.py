"""Execution of a run: generators, their records, samples of the server."""
