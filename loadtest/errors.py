"""What can go wrong with a load test, apart from what the server answers: that is an entry in the run's records."""


class LoadtestError(Exception):
    """A file, an option or a run that cannot be used; the message says what was expected."""
