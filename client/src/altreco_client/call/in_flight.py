"""The limit of requests in flight: a client sends no more than its server answers in time.

Triton computes every request that it accepts, even if its caller has given up. A client that sends everything at once
to an overloaded server therefore gets few answers in time. The limit adapts like TCP's congestion window (AIMD, RFC
5681): it grows by one a round trip while it is used, and shrinks when a request takes too much of its deadline.
A request over the limit waits for a slot, so a burst after an idle time is not refused.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future

from ..channel import Limit

START = 16
"""First value of an adaptive limit: enough to keep a server busy, and too little to flood it."""

LATE_SHARE = 0.5
"""A request is late if it takes more than this share of its deadline: the queue in front of the server is too long."""

WAIT_SHARE = 0.25
"""Longest wait for a slot, as a share of the deadline. It leaves enough time even for a late answer."""

SHRINK = 0.8
"""Factor of the limit after a late request, at most once a round trip."""

SMOOTHING = 0.1
"""Weight of the latest answer in the mean time between two slots."""


class InFlight:
    """The requests in flight of one client, and those that wait for a slot, first come, first served. Thread-safe."""

    def __init__(self, setting: Limit) -> None:
        """Take the setting of `Channel.max_in_flight`."""
        self._adaptive = setting == "adaptive"
        self._limit = float("inf") if setting is None else float(START if setting == "adaptive" else setting)
        self._used = 0
        self._waiting: deque[Future[None]] = deque()
        self._between_slots_s: float | None = None
        self._shrunk_at = 0.0
        self._lock = threading.Lock()

    @property
    def limit(self) -> int | None:
        """Most requests in flight now; None: no limit."""
        return None if self._limit == float("inf") else int(self._limit)

    def wait_s(self) -> float:
        """How long those that wait now will take to get their slots, in seconds; 0 if that is not known."""
        return len(self._waiting) * (self._between_slots_s or 0.0)

    def enter(self) -> Future[None] | None:
        """Take a slot and return None, or return a future that is done when a slot was given to it."""
        with self._lock:
            if self._used < self._room():
                self._used += 1
                return None
            waiter: Future[None] = Future()
            self._waiting.append(waiter)
            return waiter

    def give_up(self, waiter: Future[None]) -> None:
        """Stop waiting. Pass the slot on if it was given in the meantime."""
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                return
            self._used -= 1
            given = self._given()
        _wake(given)

    def leave(self, started: float, deadline_s: float, *, answered: bool) -> None:
        """Free the slot of a request that started at `started` (time.monotonic) with this deadline, and adapt.

        A request that failed at once, because the server is gone, says nothing about the server's load.
        """
        now = time.monotonic()
        with self._lock:
            if answered and self._used >= self._room():
                self._measure((now - started) / self._used)
            if self._adaptive:
                self._adapt(started, now, answered=answered, late=now - started > LATE_SHARE * deadline_s)
            self._used -= 1
            given = self._given()
        _wake(given)

    def _adapt(self, started: float, now: float, *, answered: bool, late: bool) -> None:
        if not late:
            if answered and self._used >= self._room():
                self._limit += 1 / self._limit
        elif started >= self._shrunk_at:  # what was sent before the limit shrank says nothing about the smaller one
            self._limit = max(1.0, self._limit * SHRINK)
            self._shrunk_at = now

    def _measure(self, between_slots_s: float) -> None:
        """Learn from an answer at the full limit: the requests in flight take this long each (Little's law)."""
        if self._between_slots_s is None:
            self._between_slots_s = between_slots_s
        self._between_slots_s += SMOOTHING * (between_slots_s - self._between_slots_s)

    def _room(self) -> float:
        return self._limit if self._limit == float("inf") else int(self._limit)

    def _given(self) -> list[Future[None]]:
        """The waiters that get a slot now."""
        given = []
        while self._waiting and self._used < self._room():
            given.append(self._waiting.popleft())
            self._used += 1
        return given


def _wake(waiters: list[Future[None]]) -> None:
    """Outside the lock, because a future runs its callbacks."""
    for waiter in waiters:
        waiter.set_result(None)
