"""What a call does, without doing any of it: generators, which the sync and the asyncio client both run.

A flow yields steps, and is sent their results: `Call` (of tritonclient), `Compute` (what takes CPU time), `Pause`, and
`Once` (what one of several callers does for all).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ..errors import DeadlineExceeded, InvalidRequest

T = TypeVar("T")


class Usable:
    """Whether a client may still be used: until it is closed, in the process that made it."""

    def __init__(self) -> None:
        """By the process that calls this."""
        self._process, self._closed = os.getpid(), False

    def close(self) -> None:
        """From now on it may not."""
        self._closed = True

    def check(self) -> None:
        """Raise InvalidRequest where gRPC would hang, or raise something of its own."""
        if self._closed:
            raise InvalidRequest("this client was closed: make another")
        if self._process != os.getpid():
            raise InvalidRequest(
                f"this client was made in process {self._process}, and gRPC does not survive a fork: make one in each "
                "process, after the fork"
            )


class Deadline:
    """When a call must have ended; it begins when this is made."""

    def __init__(self, seconds: float, url: str) -> None:
        """`url` is for the message."""
        self.seconds, self._url = seconds, url
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, above zero; raises DeadlineExceeded."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.exceeded()
        return left

    def exceeded(self) -> DeadlineExceeded:
        """The error to raise."""
        return DeadlineExceeded(f"{self._url} did not answer within {self.seconds:g} s; raise deadline_s")


@dataclass(frozen=True)
class Call:
    """A method of tritonclient's InferenceServerClient, and its arguments."""

    method: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Compute:
    """Work that takes CPU time: asyncio does it in a thread."""

    work: Callable[[], Any]


@dataclass(frozen=True)
class Pause:
    """Seconds to wait."""

    seconds: float


@dataclass(frozen=True)
class Once:
    """A flow that one caller at a time runs, unless `done` has its result already."""

    flow: Callable[[], Flow[Any]]
    done: Callable[[], Any]
    deadline: Deadline


Step: TypeAlias = "Call | Compute | Pause | Once"
Flow: TypeAlias = Generator[Step, Any, T]
