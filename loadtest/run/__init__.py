"""Making a run: generators, their parts, samples of the server."""
