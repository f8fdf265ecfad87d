"""Which users a candidate release answers, and what a client knows of the candidate.

A user stays with one release: the candidate answers those whose hash is below the share. The hash is salted with the
candidate's number, so that the next candidate gets other users, and a larger share keeps those of a smaller one.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

ABSENT_S = 60.0
"""Time without a question after the server had no candidate. Few servers have one, and most of the time none has."""


def position(user: str, release: str) -> float:
    """The place of a user in the order in which a growing share takes them, 0 to 1.

    >>> position("u-17", "8") < 0.05
    False
    """
    digest = hashlib.blake2b(f"{release}:{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass
class Candidate:
    """What a client knows of the candidate; threads may share it. `release` is None while it is not known."""

    release: str | None = None
    _absent_until: float = 0.0

    def may_be_there(self) -> bool:
        """Whether to ask for it."""
        return time.monotonic() >= self._absent_until

    def is_gone(self) -> None:
        """Ask again in ABSENT_S, because the server has none, or did not say."""
        self.release, self._absent_until = None, time.monotonic() + ABSENT_S
