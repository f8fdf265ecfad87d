"""The errors of a backfill, each with its exit code."""


class BackfillError(Exception):
    """The backfill stopped, and the same command may go on later; the message says why."""

    exit_code = 1


class InputError(BackfillError, ValueError):
    """The input, the options or the folder are wrong: the same command would stop again."""

    exit_code = 2


class Terminated(BackfillError):
    """A signal asked for the end; the part under way is dropped. Its message is the signal's number."""
