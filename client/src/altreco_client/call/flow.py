"""The steps of a call, as generators that the sync and the asyncio client both run.

A flow yields steps and is sent their results. `Call` calls tritonclient, `Compute` does work that takes CPU time,
`Pause` waits, `Slot` waits for its turn, and `Once` runs a flow that one of several callers runs for all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from ..errors import DeadlineExceeded, InvalidRequest, Unavailable

T = TypeVar("T")

SMALL_WORK = 1_000
"""Most entries of histories and answers that the asyncio client goes through on the event loop, in 1 or 2 ms."""


class Usable:
    """A check that a client is neither closed nor used in another process than its own."""

    def __init__(self) -> None:
        """Belong to the current process."""
        self._process, self.closed = os.getpid(), False

    def close(self) -> None:
        """Mark the client as closed."""
        self.closed = True

    def interrupted(self) -> Unavailable:
        """The error of a call that was under way when the client was closed."""
        return Unavailable("this client was closed while the call was under way")

    def check(self) -> None:
        """Raise InvalidRequest if the client may not be used: gRPC would hang, or raise an error of its own."""
        if self.closed:
            raise InvalidRequest("this client was closed: make another")
        if self._process != os.getpid():
            raise InvalidRequest(
                f"this client was made in process {self._process}, and gRPC does not survive a fork: make one in each "
                "process, after the fork"
            )


class Deadline:
    """The deadline of a call, which starts when this object is made."""

    def __init__(self, seconds: float, url: str) -> None:
        """Start now; the url is for the error message."""
        self.seconds, self._url = seconds, url
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Remaining seconds, above zero; raises DeadlineExceeded."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.exceeded()
        return left

    def over(self, seconds: float) -> bool:
        """Whether no more than these seconds are left."""
        return self._end - time.monotonic() <= seconds

    def exceeded(self) -> DeadlineExceeded:
        """The error to raise when no time is left."""
        return DeadlineExceeded(f"{self._url} did not answer within {self.seconds:g} s; raise deadline_s")


@dataclass(frozen=True)
class Call:
    """A method of tritonclient's InferenceServerClient, and its arguments."""

    method: str
    arguments: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Compute:
    """Work that takes CPU time; the asyncio client does it in a thread."""

    work: Callable[[], Any]


@dataclass(frozen=True)
class Pause:
    """A wait."""

    seconds: float


@dataclass(frozen=True)
class Slot:
    """A wait for a future of `InFlight`; its result is False if it was not done within `seconds`."""

    future: Future[None]
    seconds: float


@dataclass(frozen=True)
class Once:
    """A flow that one caller at a time runs; it is skipped if `done` returns its result already."""

    flow: Callable[[], Flow[Any]]
    done: Callable[[], Any]
    deadline: Deadline


Step: TypeAlias = "Call | Compute | Pause | Slot | Once"
Flow: TypeAlias = Generator[Step, Any, T]


def compute(size: int, work: Callable[[], T]) -> Flow[T]:
    """Do work that goes through `size` entries, as a step only if they are many: a step costs a change of threads."""
    if size <= SMALL_WORK:
        return work()
    result: T = yield Compute(work)
    return result
