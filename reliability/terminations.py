"""SIGTERM under load: of the only server, of one of two replicas, and after the drain of the manifests' preStop."""

import time
from collections import Counter
from pathlib import Path

from altreco_client import Channel

from deploy.local import Server
from measure.markdown import seconds
from measure.waiting import wait_until
from reliability.headless import headless
from reliability.outcome import Check, Outcome
from reliability.questions import Rights, kept, passing, under_load
from reliability.servers import (
    AGE_S,
    GRACE_S,
    addresses,
    all_of,
    answered_by,
    connection_age,
    exit_code,
    serving,
    terminate,
)
from reliability.wording import kinds

EXIT_TIMEOUT_S = 5
"""Triton's exit timeout in the manifests."""
EXIT_TIMEOUT = f"--exit-timeout-secs={EXIT_TIMEOUT_S}"
PRE_STOP_S = 75.0
"""Time from leaving DNS to SIGTERM, as in the manifests."""
MOST_LOST = 0.05
"""Largest share of lost calls. An attempt meets the stopping replica with probability 1/2, six in a row with 1/64."""
POLL_S = 0.2


def terminated_server(repository: Path, *, rounds: int = 5, callers: int = 8, deadline_s: float = 10.0) -> Outcome:
    """Stop the only server, a new one each round; clients try once, so that they see what the server answered."""
    everything, met, later, codes, took_s = Rights(), Rights(), Rights(), Counter[int](), []
    for _ in range(rounds):
        with (
            serving(repository, extra_args=(EXIT_TIMEOUT,)) as server,
            under_load(
                server.grpc_url, callers=callers, deadline_s=deadline_s, channel=Channel(max_attempts=1)
            ) as calls,
        ):
            _wait_for_answers(calls, 4 * callers)
            terminated_s = time.monotonic()
            terminate(server)
            codes[exit_code(server)] += 1
            took_s.append(time.monotonic() - terminated_s)
        everything.ended += calls.ended
        met.ended += calls.under_way(terminated_s).ended
        later.ended += calls.since(terminated_s).ended
    return Outcome(
        title="A server is told to stop, without a drain",
        did=f"SIGTERM to the only Triton (exit timeout {EXIT_TIMEOUT_S} s) while {callers} callers sent requests "
        f"without pause, each call tried once, deadline {deadline_s:g} s; {rounds} rounds.",
        figures={
            "calls in flight at SIGTERM": _ends(met),
            "calls that started later": _ends(later),
            "time until the process ended": f"{seconds(min(took_s))} to {seconds(max(took_s))}",
            "exit codes (-N: ended by signal N)": ", ".join(f"{code}: {n} times" for code, n in sorted(codes.items())),
        },
        checks=[
            *kept(everything, deadline_s),
            Check(
                "calls failed only with Unavailable, which a client retries elsewhere",
                _only_unavailable(everything),
            ),
            Check("every call in flight at SIGTERM was answered", not met.failed),
        ],
    )


def terminated_replica(
    repository: Path, *, rounds: int = 3, callers: int = 8, deadline_s: float = 10.0, window_s: float = 5.0
) -> Outcome:
    """Stop one of two replicas without a drain; the client retries on the other one."""
    everything, met = Rights(), Rights()
    for _ in range(rounds):
        with (
            serving(repository, extra_args=(EXIT_TIMEOUT,)) as one,
            serving(repository) as other,
            under_load(all_of(one, other), callers=callers, deadline_s=deadline_s) as calls,
        ):
            wait_until(lambda one=one: answered_by(one) > callers, "the first answers")  # type: ignore[misc]
            terminated_s = time.monotonic()
            terminate(one)
            exit_code(one)
            passing(calls, window_s)
        everything.ended += calls.ended
        met.ended += calls.under_way(terminated_s).ended
    return Outcome(
        title="One of two replicas is told to stop, without a drain",
        did=f"SIGTERM to one of two Tritons (exit timeout {EXIT_TIMEOUT_S} s) while {callers} callers, whose client "
        f"knows both, sent requests without pause, deadline {deadline_s:g} s; {rounds} rounds.",
        figures={
            "calls in flight at SIGTERM": f"{_ends(met)}; the longest took {seconds(met.slowest_s)}",
            "all calls": _ends(everything),
            "longest call": seconds(everything.slowest_s),
        },
        checks=[
            *kept(everything, deadline_s),
            Check("calls failed only with Unavailable", _only_unavailable(everything)),
            Check(f"at most {MOST_LOST:.0%} of the calls were lost", _share_lost(everything) <= MOST_LOST),
        ],
    )


def drained_replica(
    repository: Path,
    *,
    callers: int = 8,
    deadline_s: float = 10.0,
    pre_stop_s: float = PRE_STOP_S,
    age_s: float = AGE_S,
    quiet_s: float = 2 * POLL_S,
    channel: Channel | None = None,
) -> Outcome:
    """End one of two pods of a headless service as the manifests do; each call is tried once.

    `quiet_s`: how long before SIGTERM the last request must have been.
    """
    flags = connection_age(age_s, GRACE_S)
    hosts = ("127.0.0.2", "127.0.0.3")
    with (
        headless() as service,
        serving(repository, host=hosts[0], extra_args=(EXIT_TIMEOUT, *flags)) as one,
        serving(repository, **{**addresses(one), "host": hosts[1]}, extra_args=flags) as other,
    ):
        service.addresses = [*hosts]
        url = service.url(addresses(one)["grpc_port"])
        with under_load(
            url, callers=callers, deadline_s=deadline_s, channel=channel or Channel(max_attempts=1)
        ) as calls:
            wait_until(lambda: min(map(answered_by, (one, other))) > callers, "answers of both replicas")
            left_s, at_first = time.monotonic(), answered_by(one)
            service.addresses = [hosts[1]]
            last_s, at_end = _drain(one, pre_stop_s)
            terminated_s = time.monotonic()
            terminate(one)
            code = exit_code(one)
            _wait_for_answers(calls, len(calls.answered) + 4 * callers)
        met = calls.under_way(terminated_s)
    return Outcome(
        title="One of two replicas is drained, then told to stop",
        did=f"One of two Tritons left DNS (a test name server, as for a headless service), kept serving for "
        f"{pre_stop_s:g} s like the manifests' preStop, with connections of at most {age_s:g} s, and got SIGTERM; "
        f"{callers} callers sent requests to the name without pause, each call tried once, deadline {deadline_s:g} s.",
        figures={
            "requests to it after it left DNS": f"{at_end - at_first:,}",
            "last of these, after it left DNS": seconds(last_s - left_s),
            "calls in flight (to the other) at SIGTERM": _ends(met),
            "all calls": _ends(calls),
            "exit code (-N: ended by signal N)": str(code),
        },
        checks=[
            *kept(calls, deadline_s),
            Check("no call failed", not calls.failed),
            Check("clients had left it before SIGTERM", last_s < terminated_s - quiet_s),
        ],
    )


def _drain(server: Server, pre_stop_s: float) -> tuple[float, int]:
    """Let a server keep serving; return when its last request was seen, and how many it had answered."""
    begin_s = last_s = time.monotonic()
    answered = answered_by(server)
    while time.monotonic() < begin_s + pre_stop_s:
        time.sleep(POLL_S)
        if (now := answered_by(server)) != answered:
            last_s, answered = time.monotonic(), now
    return last_s, answered


def _ends(calls: Rights) -> str:
    return f"{len(calls.ended):,}; answered: {len(calls.answered):,}; failed: {kinds(calls.errors())}"


def _only_unavailable(calls: Rights) -> bool:
    return set(calls.errors()) <= {"Unavailable"}


def _share_lost(calls: Rights) -> float:
    return len(calls.failed) / len(calls.ended)


def _wait_for_answers(calls: Rights, count: int) -> None:
    wait_until(lambda: len(calls.answered) >= count, f"{count} answers")
