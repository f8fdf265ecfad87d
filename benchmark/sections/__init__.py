"""The sections of the benchmark; each measures, and renders what it measured."""
