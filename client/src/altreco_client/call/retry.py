"""When a request goes out again: only after a server that was not there, or gave it up, and only while most succeed.

A recommendation changes nothing on the server, so asking again is safe. What is not asked again: a request whose time
is over (Triton's queue says so with the status of a server that is gone: gRPC's own retries would ask again, and the
server would work for nobody), and one that the server refuses or breaks at.
"""

from __future__ import annotations

import random

from ..channel import Channel
from ..errors import ServerError, TLSFailed, Unavailable

BUDGET = 1000.0
"""Failures in a row after which nothing is tried again, as gRPC's own retries would be throttled (gRFC A6). More than
the requests that one client has under way when a replica is lost: each of those should get its second attempt."""

TLS_ATTEMPTS = 4
"""At most, where the two do not seem to trust each other: to connect once more takes no longer, and a server that dies
while it shakes hands looks the same."""

REFILL = 0.1
"""Of a failure, by each answer: a tenth of all requests may be retries."""


class Retries:
    """Shared by all calls of a client. Threads may lose each other a count, which does no harm."""

    def __init__(self, channel: Channel) -> None:
        """By the channel's settings."""
        self._channel, self._left = channel, BUDGET

    def answered(self) -> None:
        """A request was answered."""
        if self._left < BUDGET:
            self._left = min(BUDGET, self._left + REFILL)

    def pause_s(self, failure: ServerError, attempt: int) -> float | None:
        """Seconds to wait before the next attempt, half of them by chance; None: there is none."""
        if not isinstance(failure, Unavailable):
            return None
        self._left = max(0.0, self._left - 1)
        most = self._channel.max_attempts
        if isinstance(failure, TLSFailed):
            most = min(most, TLS_ATTEMPTS)
        if attempt >= most or not self._left:
            return None
        longest = min(self._channel.backoff_s * 2 ** (attempt - 1), self._channel.max_backoff_s)
        return random.uniform(longest / 2, longest)
