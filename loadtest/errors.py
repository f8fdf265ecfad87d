"""Errors of the load test itself. A failed request is no such error: it is an entry in the run's records."""


class LoadtestError(Exception):
    """A file, an option or a run is unusable; the message says what was expected."""
