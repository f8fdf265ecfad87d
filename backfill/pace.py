"""The rate of a run, exceeded by its first batch at most, and how far it is."""

import threading
import time
from collections.abc import Sequence

from backfill.plan import Part
from backfill.results import About

SAY_EVERY_S = 30.0


class Pace:
    """Moments at which batches may start: pictures since any moment are at most `per_s` a second and one batch."""

    def __init__(self, per_s: float | None) -> None:
        """Start now; None: without a limit."""
        self._per_s = per_s
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self, pictures: int, stop: threading.Event) -> None:
        """Wait until a batch of so many pictures may start, or until `stop`."""
        if self._per_s is None:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + pictures / self._per_s
        stop.wait(start - now)


class Progress:
    """The pictures of a shard, those of earlier runs included, and how fast this run is."""

    def __init__(self, parts: Sequence[Part], finished: Sequence[About]) -> None:
        """Take the shard's parts, and the figures of those that are there."""
        self._total = sum(part.rows for part in parts)
        self.rows = sum(about.rows for about in finished)
        """Pictures of finished parts."""
        self.errors = sum(about.errors for about in finished)
        """Those of them with an error."""
        self._asked = 0
        self._before = self.rows
        self._started = self._said = time.monotonic()

    def batch(self, pictures: int) -> None:
        """Count a batch of a part under way."""
        self._asked += pictures

    def finished(self, about: About) -> None:
        """Count a part that was written."""
        self.rows += about.rows
        self.errors += about.errors

    def due(self) -> bool:
        """Whether SAY_EVERY_S have passed since the last time."""
        if time.monotonic() - self._said < SAY_EVERY_S:
            return False
        self._said = time.monotonic()
        return True

    def __str__(self) -> str:
        """Pictures, errors of finished parts, rate and time left."""
        per_s, done = self._asked / max(time.monotonic() - self._started, 1e-3), self._before + self._asked
        return (
            f"{done:,} of {self._total:,} pictures, {self.errors:,} with an error, "
            f"{rate_text(self._total - done, per_s)}"
        )


def rate_text(pictures: int, per_s: float) -> str:
    """A rate, and the time that so many pictures take at it."""
    if per_s <= 0:
        return "no rate yet"
    minutes, seconds = divmod(round(pictures / per_s), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"
    return f"{per_s:.3g} pictures/s, {left} left"
