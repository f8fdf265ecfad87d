"""Waiting for a condition, in measurements and in tests."""

import time
from collections.abc import Callable

POLL_S = 0.01


def wait_until(
    condition: Callable[[], bool], what: str = "", *, seconds: float = 60.0, poll_s: float = POLL_S
) -> float:
    """Poll until the condition holds; return the seconds it took. Raises TimeoutError, which names `what`."""
    started_s = time.monotonic()
    while not condition():
        if time.monotonic() - started_s > seconds:
            raise TimeoutError(f"not within {seconds:g} s{': ' * bool(what)}{what}")
        time.sleep(poll_s)
    return time.monotonic() - started_s
