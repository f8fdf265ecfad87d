"""Concurrent callers. In a closed loop, each sends its next request once the last one is answered.

`closed_load` measures latencies; any failure ends it. `scheduled_load` does so for an open load. `calling` runs callers
while something happens to the server: it also records failures, and the load ends with the `with` block.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

R = TypeVar("R")
A = TypeVar("A")


@dataclass(frozen=True)
class Caller(Generic[R, A]):
    """One thread: takes the next of `requests`, and calls `ask` with it; only the call is timed."""

    ask: Callable[[R], A]
    requests: Iterable[R]


@dataclass(frozen=True)
class Call(Generic[A]):
    """A finished call, with times of the monotonic clock; either `answer` or `error` is set."""

    started_s: float
    ended_s: float
    answer: A | None = None
    error: Exception | None = None

    @property
    def seconds(self) -> float:
        """Duration of the call."""
        return self.ended_s - self.started_s


@dataclass
class Calls(Generic[A]):
    """The calls finished so far, in the order in which they finished."""

    ended: list[Call[A]] = field(default_factory=list)

    @property
    def answered(self) -> list[Call[A]]:
        """The calls without an error."""
        return [call for call in self.ended if call.error is None]

    @property
    def failed(self) -> list[Call[A]]:
        """The calls with an error."""
        return [call for call in self.ended if call.error is not None]

    @property
    def slowest_s(self) -> float:
        """Duration of the slowest call, failed ones included; 0 if there were none."""
        return max((call.seconds for call in self.ended), default=0.0)

    def since(self, moment_s: float, until_s: float = math.inf) -> "Calls[A]":
        """Select the calls that started between two times."""
        return Calls([call for call in self.ended if moment_s <= call.started_s < until_s])

    def under_way(self, moment_s: float) -> "Calls[A]":
        """Select the calls that were in flight at a time."""
        return Calls([call for call in self.ended if call.started_s <= moment_s < call.ended_s])

    def errors(self) -> Counter[str]:
        """Count the failed calls by the class of their error."""
        return Counter(type(call.error).__name__ for call in self.failed)

    def percentile_ms(self, percent: float) -> float:
        """Compute a latency percentile of the answered calls; nan if there are none."""
        return percentile([1000 * call.seconds for call in self.answered], percent)


@dataclass(frozen=True, kw_only=True)
class Load:
    """A measured load: latencies, time from the first request to the last answer, CPU time of this process."""

    latencies_ms: Sequence[float]
    seconds: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        """Answered requests per second."""
        return len(self.latencies_ms) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Compute a latency percentile."""
        return percentile(self.latencies_ms, percent)


def percentile(values: ArrayLike, percent: float) -> float:
    """Compute a percentile as an observed value (numpy's method "higher"); nan without values.

    All reports use this definition. If the percentile falls between two observed values, it is the larger one, because
    no request had a latency in the gap between them.
    """
    array = np.asarray(values, dtype=np.float64)
    return float(np.percentile(array, percent, method="higher")) if array.size else math.nan


def closed_load(callers: Sequence[Caller[Any, Any]], *, seconds: float = math.inf) -> Load:
    """Run each caller until its requests or the seconds run out, then wait for the requests in flight.

    The first error of a caller ends the load and is raised.
    """
    calls, stop, started_s, cpu_s = Calls[Any](), threading.Event(), time.monotonic(), time.process_time()
    with ThreadPoolExecutor(len(callers)) as pool:
        futures = [pool.submit(_call, caller, calls, stop, until_s=started_s + seconds) for caller in callers]
    for future in futures:
        future.result()
    latencies_ms = [1000 * call.seconds for call in calls.ended]
    return Load(latencies_ms=latencies_ms, seconds=time.monotonic() - started_s, cpu_s=time.process_time() - cpu_s)


def scheduled_load(callers: Sequence[Caller[Any, Any]], moments_s: Sequence[float]) -> Load:
    """Start one call at each of the moments (seconds from now, ascending), on whichever caller is free: an open load.

    Latencies count from these moments, so they include the wait for a free caller. The first error of a caller ends the
    load and is raised.
    """
    latencies_ms, stop = list[float](), threading.Event()
    started_s, cpu_s = time.monotonic(), time.process_time()
    moments = shared(started_s + moment_s for moment_s in moments_s)
    with ThreadPoolExecutor(len(callers)) as pool:
        futures = [pool.submit(_keep_to, caller, moments, latencies_ms, stop) for caller in callers]
    for future in futures:
        future.result()
    return Load(latencies_ms=latencies_ms, seconds=time.monotonic() - started_s, cpu_s=time.process_time() - cpu_s)


def random_moments(rng: np.random.Generator, rate: float, seconds: float) -> list[float]:
    """Draw the moments of random arrivals (Poisson), `rate` per second, in seconds from now."""
    gaps = rng.exponential(1 / rate, int(2 * rate * seconds) + 10)
    return [moment_s for moment_s in gaps.cumsum().tolist() if moment_s < seconds]


@contextmanager
def calling(
    callers: Sequence[Caller[Any, A]], *, every_s: float = 0.0, failures: tuple[type[Exception], ...] = ()
) -> Iterator[Calls[A]]:
    """Run the callers until the block is left; each starts at most one call per `every_s` seconds.

    Errors of the types in `failures` are recorded. Any other error ends the load, and is raised when the block is left.
    """
    calls, stop = Calls[A](), threading.Event()
    with ThreadPoolExecutor(len(callers)) as pool:
        futures = [pool.submit(_call, caller, calls, stop, every_s=every_s, failures=failures) for caller in callers]
        try:
            yield calls
        finally:
            stop.set()
            for future in futures:
                future.result()


def shared(requests: Iterable[R]) -> Iterator[R]:
    """Wrap requests in an iterator that several callers may use at the same time."""
    return _Shared(iter(requests))


class _Shared(Iterator[R]):
    def __init__(self, requests: Iterator[R]) -> None:
        self._requests, self._lock = requests, threading.Lock()

    def __next__(self) -> R:
        with self._lock:
            return next(self._requests)


def _call(
    caller: Caller[Any, A],
    calls: Calls[A],
    stop: threading.Event,
    *,
    until_s: float = math.inf,
    every_s: float = 0.0,
    failures: tuple[type[Exception], ...] = (),
) -> None:
    """Run one caller in its thread."""
    try:
        for request in caller.requests:
            if stop.is_set():
                break
            call = _one(caller.ask, request, failures)
            calls.ended.append(call)
            if every_s:
                stop.wait(every_s - call.seconds)
            if time.monotonic() >= until_s:  # at the end, so that a thread that starts late makes one call
                break
    except BaseException:
        stop.set()
        raise


def _keep_to(
    caller: Caller[Any, Any], moments: Iterator[float], latencies_ms: list[float], stop: threading.Event
) -> None:
    """Run one caller of an open load in its thread."""
    requests = iter(caller.requests)
    try:
        request = next(requests)
        for moment_s in moments:
            if stop.wait(moment_s - time.monotonic()):
                return
            caller.ask(request)
            latencies_ms.append(1000 * (time.monotonic() - moment_s))
            request = next(requests)
    except BaseException:
        stop.set()
        raise


def _one(ask: Callable[[Any], A], request: object, failures: tuple[type[Exception], ...]) -> Call[A]:
    started_s = time.monotonic()
    try:
        answer = ask(request)
    except failures as error:
        return Call(started_s, time.monotonic(), error=error)
    return Call(started_s, time.monotonic(), answer)
