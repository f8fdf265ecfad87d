"""Locust's users. Import this after Locust has patched the standard library and gRPC is set up for gevent.

Closed load: each user sends a request, waits for the answer, and thinks. Open load: one user per process sends each
request when it is due, in its own greenlet, without waiting for earlier ones. Latency counts from when it was due.
"""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import gevent
import numpy as np
from altreco_client import PreparedImage
from gevent.pool import Pool
from locust import LoadTestShape, User, task
from locust.env import Environment
from locust.user.users import LOCUST_STATE_STOPPING

from loadtest.load.payloads import Payloads, Planned
from loadtest.load.plan import SLACK_S, Plan
from loadtest.load.profiles import Profile
from loadtest.run.parts import NO_RECORDS, Append, Part, Recorder

UNDER_WAY = 1000
"""Requests of an open load in flight per process, about 0.5 MB each. More have to wait, and the wait counts."""
MESSAGE = 200
"""Characters kept of an error."""
IDLE_S = 3600.0
KILL_S = 5.0
SET_UP_S = 60.0
"""Deadline of what comes before the load; a request's own is the workload's."""
HOST = "localhost:8001"
"""Host for Locust started by hand, unless it is given another."""


class NotSent(Exception):
    """The run ended before a due request could be sent."""


class NotEnded(Exception):
    """A request was still in flight when the run stopped waiting."""


class RequestFailed(Exception):
    """The error reported to Locust, which groups failures by message."""


class Sender:
    """Client, payloads and recorder of one process."""

    def __init__(self, plan: Plan) -> None:
        """Connect and make the payloads; raises AltrecoError and LoadtestError."""
        self.plan = plan
        self.client = plan.access.recommender(plan.url, model_name=plan.model, deadline_s=SET_UP_S)
        self.payloads = Payloads(plan.workload, self.client.vocabulary.tags, plan.nonce)
        self._numbers = itertools.count(plan.number, plan.workers)
        self._recorder: Recorder | None = None
        self._started = time.monotonic()

    def begin(self) -> None:
        """Start the clock and the recorder."""
        self._started = time.monotonic()
        if self.plan.part:
            with _or_exit():
                self._recorder = Recorder(Part(Path(self.plan.part), self._started).append)

    def begin_at(self, started: float, append: Append) -> None:
        """Begin at a time of this machine's monotonic clock, which may be to come, with records for `append`."""
        self._started, self._recorder = started, Recorder(append)

    def now_s(self) -> float:
        """Time since the load began, negative before it."""
        return time.monotonic() - self._started

    def requests(self) -> tuple[Iterator[Planned], np.random.Generator]:
        """Make a stream of requests that no other user has, and a random generator for the user's think times."""
        number = next(self._numbers)
        return self.payloads.stream(number), np.random.default_rng([self.plan.workload.seed, number, 1])

    def due(self) -> tuple[list[float], Iterator[Planned]]:
        """Return the times at which this process's requests of an open load are due, and the requests."""
        plan = self.plan
        return plan.arrivals().tolist(), itertools.islice(self.payloads.stream(0), plan.number, None, plan.workers)

    def send(self, environment: Environment, planned: Planned, intended_s: float | None = None) -> None:
        """Send a request and record the result; `intended_s` None means that it is due now."""
        began_s, sent_s = self.now_s(), None
        error: Exception | None = None
        try:
            images = [self._image(*pair) for pair in zip(planned.pictures, planned.decode, strict=True)]
            sent_s, k, deadline_s = self.now_s(), self.plan.workload.k, self.plan.workload.deadline_s
            if len(images) == 1:
                self.client.recommend(images[0], planned.history, k, deadline_s=deadline_s)
            else:
                self.client.recommend_batch(images, [planned.history] * len(images), k, deadline_s=deadline_s)
        except Exception as caught:  # noqa: BLE001 - any error is a failed request
            error = caught
        if sent_s is None:  # its pictures were not ready in time, which is the generator's fault
            sent_s = self.now_s()
        self._note(environment, planned, began_s if intended_s is None else intended_s, sent_s, error)

    def give_up(self, environment: Environment, planned: Planned, intended_s: float) -> None:
        """Record a request that was due and never sent."""
        self._note(environment, planned, intended_s, self.now_s(), NotSent("the run ended before it could be sent"))

    def note_bound(self) -> None:
        """Record that a request has to wait for others."""
        if self._recorder:
            with _or_exit():
                self._recorder.note_bound()

    def _image(self, number: int, decode: bool) -> PreparedImage:
        if decode:  # in a thread: decoding would block all other requests
            return gevent.get_hub().threadpool.apply(self.payloads.decoded, (number,))
        return self.payloads.picture(number)

    def _note(
        self, environment: Environment, planned: Planned, intended_s: float, started_s: float, error: Exception | None
    ) -> None:
        ended_s = self.now_s()
        if self._recorder:
            with _or_exit():
                self._recorder.add(
                    planned.pictures,
                    intended_s=intended_s,
                    started_s=started_s,
                    ended_s=ended_s,
                    cold=planned.cold,
                    error=None if error is None else _sentence(error),
                )
        environment.events.request.fire(
            request_type="grpc",
            name="recommend",
            response_time=(ended_s - intended_s) * 1000,
            response_length=0,
            exception=None if error is None else RequestFailed(_sentence(error)),
            context={},
        )


@contextmanager
def _or_exit() -> Iterator[None]:
    """Exit at once if a record cannot be written: Locust would log the error, and go on without records."""
    try:
        yield
    except OSError:
        os._exit(NO_RECORDS)  # the code says it all: the log is on the same disk


def _sentence(error: Exception) -> str:
    """Describe an error without the request's id, so that equal errors have equal text."""
    return f"{type(error).__name__}: {str(error).partition(' [request id')[0]}"[:MESSAGE]


class ClosedUser(User):
    """User of a closed load: sends a request, waits, thinks."""

    abstract = True
    sender: ClassVar[Sender]
    think_time_s: ClassVar[float] = 0.0

    def on_start(self) -> None:
        """Get a stream of requests, and wait for the begin."""
        self._requests, self._rng = self.sender.requests()
        gevent.sleep(max(0.0, -self.sender.now_s()))

    def wait_time(self) -> float:
        """Draw the think time, seconds."""
        return self._rng.exponential(self.think_time_s) if self.think_time_s else 0.0

    @task
    def recommend(self) -> None:
        """Send one request."""
        self.sender.send(self.environment, next(self._requests))


class OpenUser(User):
    """User of an open load: sends all requests of its process."""

    abstract = True
    sender: ClassVar[Sender]

    def on_start(self) -> None:
        """Draw the times at which requests are due."""
        self._times, self._requests = self.sender.due()
        self._next = 0
        self._under_way = Pool(UNDER_WAY)

    def wait_time(self) -> float:
        """Time until the next request is due, seconds."""
        if self._next == len(self._times):
            return IDLE_S
        return max(0.0, self._times[self._next] - self.sender.now_s())

    @task
    def send_due(self) -> None:
        """Send all requests that are due."""
        while self._due() and self._state != LOCUST_STATE_STOPPING:
            if self._under_way.full():
                self.sender.note_bound()
            intended_s, planned = self._take()
            self._under_way.spawn(self.sender.send, self.environment, planned, intended_s)

    def on_stop(self) -> None:
        """Wait for requests in flight until their deadline; those unsent or unfinished are recorded as errors.

        What has just become due is still sent: the run ended before the generator had its turn, which is no delay.
        """
        now_s = self.sender.now_s()
        while self._due():
            intended_s, planned = self._take()
            if now_s - SLACK_S < intended_s and not self._under_way.full():
                self._under_way.spawn(self.sender.send, self.environment, planned, intended_s)
            else:
                self.sender.give_up(self.environment, planned, intended_s)
        self._under_way.join(timeout=self.sender.plan.workload.deadline_s + 1)
        self._under_way.kill(NotEnded("no answer before the run stopped waiting"), timeout=KILL_S)

    def _due(self) -> bool:
        return self._next < len(self._times) and self._times[self._next] <= self.sender.now_s()

    def _take(self) -> tuple[float, Planned]:
        self._next += 1
        return self._times[self._next - 1], next(self._requests)


class ProfileShape(LoadTestShape):
    """Number of users over time: the profile's, or for an open load one per process."""

    profile: ClassVar[Profile]
    workers: ClassVar[int]
    use_common_options = False

    def tick(self) -> tuple[int, float] | None:
        """Number of users and how many may start per second; None ends the run."""
        if self.profile.users is None:  # each process ends its requests by its own clock
            over = self.get_run_time() > self.profile.duration_s + SLACK_S
            return None if over else (self.workers, self.workers)
        level = self.profile.level(self.get_run_time())
        return None if level is None else (users := round(self.profile.users * level), max(users, 1))


def user_class(plan: Plan | None) -> type[ClosedUser] | type[OpenUser]:
    """Make the user class for a plan, or one without think time; it still needs a `sender`."""
    if plan is None or plan.profile is None:
        return type("Uploader", (ClosedUser,), {"host": HOST})
    if plan.profile.load == "open":
        return type("Uploader", (OpenUser,), {"host": plan.url})
    return type("Uploader", (ClosedUser,), {"host": plan.url, "think_time_s": plan.profile.think_time_s})


def shape_class(plan: Plan | None) -> type[LoadTestShape] | None:
    """Make the shape class; None if Locust's own options set the number of users."""
    if plan is None or plan.profile is None:
        return None
    return type("Shape", (ProfileShape,), {"profile": plan.profile, "workers": plan.workers})
