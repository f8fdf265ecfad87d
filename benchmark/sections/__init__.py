"""The sections of the benchmark. Each measures its part and renders the results as Markdown."""
