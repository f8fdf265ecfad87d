"""More load than capacity: callers that fill the queue, and an open load at several times the capacity."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from altreco_client import TagRecommender

from deploy.local import Server
from loadtest.load.profiles import Profile, Stage
from loadtest.load.workload import WORKLOADS, load_workload
from loadtest.records import Run
from loadtest.run.one import Target, run_load
from loadtest.run.sampler import sampling
from measure.callers import percentile
from measure.markdown import mib, ms, number, seconds
from measure.server import Footprint, footprint, metrics
from measure.waiting import wait_until
from reliability.outcome import Check, Outcome
from reliability.questions import QUESTIONS, SLACK_S, WARM_UP_S, Rights, keep_asking, kept, passing, questions, wrong
from reliability.releases import prepared
from reliability.servers import serving
from reliability.slow_model import slow_repository
from reliability.wording import kinds, speed

SLOWEST_STEP = "visual_encoder"
"""The model for which requests queue."""
CALM_CALLERS = 2
EVERY_S = 0.25
CANARY_EVERY_S = 0.5
LEAST_OFFERED = 0.8
"""Least share of the requested load: a generator on the same cores may be late, and arrivals are random."""
LEAST_ANSWERED = 0.9
"""Least share of the capacity, also if the generator and refused requests use the same cores."""
REFUSALS = {"Overloaded", "DeadlineExceeded"}
"""Errors that mean overload."""
GENERATORS_OWN = ("NotSent", "NotEnded")
"""Errors of a load generator that was too late to send; the server never saw these requests."""
MOST_GROWN_MIB = 512
"""Largest growth of memory over an overload; the allocators of three processes keep some of what they used."""


@dataclass(frozen=True)
class Overload:
    """Measurements of an overload; `capacity` in pictures per second. Every request has one picture."""

    capacity: float
    deadline_s: float
    run: Run
    canaries: Rights
    after: Rights
    before: Footprint
    left: Footprint
    emptied_s: float


def full_queue(
    repository: Path, *, callers: int = 200, deadline_s: float = 5.0, crowd_s: float = 20.0, window_s: float = 5.0
) -> Outcome:
    """Run more callers than can be answered within their deadline; the client limits what is in flight."""
    with serving(repository) as server:
        asked = questions(server.grpc_url, QUESTIONS)
        with (
            TagRecommender(server.grpc_url, deadline_s=deadline_s) as recommender,
            sampling(server.grpc_url, [server.metrics_url], server.pid, every_s=EVERY_S) as samples,
        ):
            recommender.recommend(asked[0].image, asked[0].history, deadline_s=WARM_UP_S)
            with keep_asking(recommender, asked, callers=CALM_CALLERS) as calls:
                before = passing(calls, window_s)
            with keep_asking(recommender, asked, callers=callers) as crowd:
                passing(crowd, crowd_s)
            over_s = max(call.ended_s for call in crowd.ended)
            with keep_asking(recommender, asked, callers=CALM_CALLERS) as calls:
                wait_until(lambda: bool(calls.answered), "an answer after the crowd")
                back_s = min(call.ended_s for call in calls.answered) - over_s
                after = passing(calls, window_s)
    return Outcome(
        title="The queue is full",
        did=f"{callers} callers without pause for {crowd_s:g} s, each call with a deadline of {deadline_s:g} s, "
        f"which is more than the server can answer in that time. Before and after, {CALM_CALLERS} callers.",
        figures={
            f"{CALM_CALLERS} callers before": speed(before, window_s),
            f"{callers} callers": speed(crowd, crowd_s),
            "calls of these that failed": f"{len(crowd.failed):,} of {len(crowd.ended):,}: {kinds(crowd.errors())}",
            "time until these failed, p50 and p99": _p50_p99([1000 * call.seconds for call in crowd.failed]),
            "largest number of waiting requests": f"{_most_waiting(samples):,}",
            "first answer after the crowd had left": seconds(back_s),
            f"{CALM_CALLERS} callers after": speed(after, window_s),
        },
        checks=[
            *kept(crowd, deadline_s),
            Check("the load was too much: some calls failed, but not all", bool(crowd.failed) and bool(crowd.answered)),
            Check("all failures were Overloaded or DeadlineExceeded", set(crowd.errors()) <= REFUSALS),
            Check(
                "after the crowd, every answer was right",
                bool(after.answered) and not after.failed + wrong(after),
            ),
        ],
    )


def overload(
    repository: Path,
    *,
    times: float = 3.0,
    load_s: float = 60.0,
    deadline_s: float = 5.0,
    clients: int = 1,
    title: str = "Overload",
    users: int = 32,
    capacity_s: float = 10.0,
    window_s: float = 5.0,
    least_answered: float = LEAST_ANSWERED,
) -> Outcome:
    """Run an open load, which does not wait for answers, while two callers check answers.

    `clients`: processes that send it, each with a client of its own.
    """
    with serving(repository) as server, tempfile.TemporaryDirectory(prefix="altreco-reliability-") as name:
        asked = questions(server.grpc_url, QUESTIONS)
        closed = Profile(users=users, stages=(Stage(name="capacity", duration_s=capacity_s),))
        capacity = _computed_per_s(_load(server, closed, Path(name, "capacity"), deadline_s=WARM_UP_S))
        before = footprint(server.pid)
        profile = Profile(rate=times * capacity, stages=(Stage(name="overload", duration_s=load_s),))
        with TagRecommender(server.grpc_url, deadline_s=deadline_s) as recommender:
            recommender.recommend(asked[0].image, asked[0].history, deadline_s=WARM_UP_S)
            with keep_asking(recommender, asked, callers=CALM_CALLERS, every_s=CANARY_EVERY_S) as canaries:
                run = _load(server, profile, Path(name, "overload"), deadline_s=deadline_s, clients=clients)
                emptied_s = wait_until(lambda: not _pending(server), "an empty queue after the load")
                wait_until(lambda: not canaries.failed or canaries.ended[-1].error is None, "an answer after the load")
            with keep_asking(recommender, asked, callers=CALM_CALLERS) as calls:
                after = passing(calls, window_s)
        left = footprint(server.pid)
    measured = Overload(capacity, deadline_s, run, canaries, after, before, left, emptied_s)
    return Outcome(
        title=f"{title}, {times:g} times the capacity",
        did=f"Open load at {times:g} times the rate at which the server answered {users} users in a closed loop, for "
        f"{load_s:g} s, from {_processes(clients)}, each request with a deadline of {deadline_s:g} s; "
        f"{CALM_CALLERS} more callers checked answers.",
        figures={
            f"capacity ({users} users, closed loop)": f"{number(capacity)} pictures a second",
            **_figures(measured),
            f"{CALM_CALLERS} callers after": speed(after, window_s),
        },
        checks=_checks(measured, times, least_answered),
    )


def overload_apart(folder: Path, *, clients: int, batch_s: float = 0.1) -> Outcome:
    """Run the same load against a server that waits instead of computing, so that clients take no cores from it."""
    model = slow_repository(prepared(folder).repository, folder / "slow")
    model.take(batch_s)
    title = f"Overload, from {_processes(clients)} sharing no core with the server"
    return overload(model.repository, clients=clients, title=title)


def _processes(count: int) -> str:
    return f"{count} {'process' if count == 1 else 'processes'}"


def _figures(of: Overload) -> dict[str, str]:
    records, samples = of.run.records, of.run.samples
    answered, most = records.where(records.error < 0), max(sample["memory_bytes"] for sample in samples)
    memory = (of.before.memory_bytes, most, of.left.memory_bytes)
    return {
        "offered": f"{number(len(records) / of.run.settings.duration_s)} requests a second",
        "answered within the deadline, canaries included": f"{number(_answered_per_s(of))} a second, "
        f"{_answered_per_s(of) / of.capacity:.0%} of the capacity",
        "failed": kinds(_errors(of.run)),
        "latency of the answered, p50 and p99": _p50_p99(answered.latency_ms()),
        "pictures computed too late": f"{_too_late(of):,} of {_counted(samples):,}",
        "largest number of waiting requests": f"{_most_waiting(samples):,}",
        "time until the queue was empty, after the last request had ended": f"{seconds(of.emptied_s)} at most",
        "memory before, largest, after": ", ".join(map(mib, memory)),
        "connections and open files before, after": f"{of.before.connections} and {of.before.files}, "
        f"{of.left.connections} and {of.left.files}",
    }


def _checks(of: Overload, times: float, least_answered: float) -> list[Check]:
    records = of.run.records
    longest_s = float((records.ended_s - records.started_s)[records.error < 0].max(initial=0))
    offered = len(records) / of.run.settings.duration_s
    return [
        *kept(of.canaries, of.deadline_s),
        Check(
            f"the load was at least {times * LEAST_OFFERED:g} times the capacity",
            offered >= times * LEAST_OFFERED * of.capacity,
        ),
        Check("no answer came after the deadline", longest_s <= of.deadline_s + SLACK_S),
        Check(
            f"it answered at least {least_answered:.0%} of its capacity",
            _answered_per_s(of) >= least_answered * of.capacity,
        ),
        Check(
            "the only errors were Overloaded and DeadlineExceeded",
            set(_errors(of.run)) <= {*REFUSALS, *GENERATORS_OWN},
        ),
        Check("after it, every answer was right", bool(of.after.answered) and not of.after.failed + wrong(of.after)),
        Check(
            f"memory after it is at most {MOST_GROWN_MIB} MiB more than before",
            of.left.grown_mib(of.before) <= MOST_GROWN_MIB,
        ),
    ]


def _load(server: Server, profile: Profile, folder: Path, *, deadline_s: float, clients: int = 1) -> Run:
    """Run a load of single pictures; the cache is off, so each is computed."""
    target = Target(url=server.grpc_url, metrics_urls=[server.metrics_url], pid=server.pid)
    workload = replace(load_workload(WORKLOADS / "singles.toml"), deadline_s=deadline_s)
    return run_load(target, profile, workload, folder, workers=clients)


def _answered_per_s(of: Overload) -> float:
    """Pictures per second that the server computed for callers that got them in time."""
    return _computed_per_s(of.run) * (1 - _too_late(of) / _counted(of.run.samples))


def _computed_per_s(run: Run) -> float:
    """Pictures per second while the load lasted. What its requests leave in the queue is computed afterwards."""
    during = [sample for sample in run.samples if 0 <= sample["t_s"] <= run.settings.duration_s]
    return _counted(during) / (during[-1]["t_s"] - during[0]["t_s"])


def _too_late(of: Overload) -> int:
    """Number of pictures that were computed for nobody."""
    answered = np.count_nonzero(of.run.records.error < 0) + len(of.canaries.answered)
    return max(0, _counted(of.run.samples) - int(answered))


def _errors(run: Run) -> Counter[str]:
    """Count errors by kind, without their messages."""
    failed = run.records.error[run.records.error >= 0]
    return Counter(run.records.errors[error].partition(":")[0] for error in failed)


def _counted(samples: Sequence[Mapping[str, Any]]) -> int:
    """Number of pictures that the slowest step computed."""
    first, last = (sample["models"].get(SLOWEST_STEP, {}).get("rows", 0) for sample in (samples[0], samples[-1]))
    return int(last - first)


def _waiting(sample: Mapping[str, Any]) -> int:
    return int(sample["pending"].get(SLOWEST_STEP, 0))


def _most_waiting(samples: Sequence[Mapping[str, Any]]) -> int:
    return max(map(_waiting, samples))


def _pending(server: Server) -> int:
    return int(metrics([server.metrics_url])["pending"].get(SLOWEST_STEP, 0))


def _p50_p99(values_ms: Any) -> str:
    if not len(values_ms):
        return "none"
    return ", ".join(ms(percentile(values_ms, percent)) for percent in (50, 99))
