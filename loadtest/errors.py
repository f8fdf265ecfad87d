"""Errors of the load test itself. A failed request is not one of them: it is recorded in the run."""


class LoadtestError(Exception):
    """A file, an option or a run is unusable; the message says what was expected."""
