"""Output into a pipe whose reader stops early, as `| head -1` does, and to a terminal that is not UTF-8."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

READER_LEFT = 128 + 13
"""Exit code of a program that SIGPIPE ends, as a shell reports it."""


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """Exit with READER_LEFT, printing nothing, if nobody reads stdout any more; a decorator for a command's `main`.

    SIGPIPE's default action would do the same, but also end the process when a server closes a socket. Letters that
    the terminal's encoding does not have are escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_left():  # another pipe or socket
            raise
        # Python flushes stdout once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_LEFT)


def _reader_left() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
