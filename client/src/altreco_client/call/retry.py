"""Retries: a request is sent again if the server was gone or shutting down, as long as most requests succeed.

A recommendation changes nothing on the server, so a retry is safe. There is no retry after a deadline, and none if the
server has too much to do, refuses the request or breaks while answering. gRPC's own retries cannot tell these cases
apart: a request that waited too long in Triton's queue has the same status as a server that is gone.
"""

from __future__ import annotations

import random

from ..channel import Channel
from ..errors import ServerError, TLSFailed, Unavailable

BUDGET = 100.0
"""Number of failures in a row that stops all retries, like the throttling of gRPC's own retries (gRFC A6). It bounds
what the clients of a server that is down send, and is enough to retry what a busy client has in flight when it loses a
replica."""

TLS_ATTEMPTS = 4
"""Most attempts after a failed TLS handshake. A server that dies during the handshake causes the same error, and its
replica answers the next attempt."""

REFILL = 0.1
"""Retry budget regained per successful answer: at most one request in ten is a retry."""


class Retries:
    """The retry budget that all calls of a client share. Threads may lose a count to each other, which is harmless."""

    def __init__(self, channel: Channel) -> None:
        """Start with the full budget."""
        self._channel, self._left = channel, BUDGET

    def answered(self) -> None:
        """Note an answered request."""
        if self._left < BUDGET:
            self._left = min(BUDGET, self._left + REFILL)

    def pause_s(self, failure: ServerError, attempt: int) -> float | None:
        """Seconds to wait before the next attempt, with jitter; None: no further attempt."""
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
