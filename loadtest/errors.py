"""Errors of the load test itself. A failed request is not one of them: it is recorded in the run."""

import os
import sys
from typing import NoReturn

from altreco_client.text import message


class LoadtestError(Exception):
    """A file, an option or a run is unusable; the message says what was expected."""


def fail(reason: str) -> NoReturn:
    """Print an error, which another machine may have sent, and end this process with code 2.

    It ends at once: gRPC's gevent threads would keep it alive.
    """
    print(f"error: {message(reason)}", file=sys.stderr, flush=True)
    os._exit(2)
