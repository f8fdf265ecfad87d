"""SIGTERM under load: bare, with another replica there, and after the drain that the manifests' preStop gives."""

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
"""As in the manifests: from leaving DNS to SIGTERM."""
MOST_LOST = 0.05
"""With two replicas, each attempt meets the one that stops with a chance of a half: six in a row, once in 64."""
POLL_S = 0.2


def terminated_server(repository: Path, *, rounds: int = 5, callers: int = 8, deadline_s: float = 10.0) -> Outcome:
    """The only server, each round another, with clients that try once: what they get is what the server said."""
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
        did=f"SIGTERM to the only Triton (exit timeout {EXIT_TIMEOUT_S} s) while {callers} callers asked without "
        f"pause, each call tried once, deadline {deadline_s:g} s; {rounds} rounds.",
        figures={
            "calls under way at SIGTERM": _ends(met),
            "calls that began later": _ends(later),
            "until the process was gone": f"{seconds(min(took_s))} to {seconds(max(took_s))}",
            "exit codes (-N: ended by signal N)": ", ".join(f"{code}: {n} times" for code, n in sorted(codes.items())),
        },
        checks=[
            *kept(everything, deadline_s),
            Check(
                "what was lost was Unavailable, which the client asks again elsewhere", _only_unavailable(everything)
            ),
            Check("every call under way at SIGTERM was answered", not met.failed),
        ],
    )


def terminated_replica(
    repository: Path, *, rounds: int = 3, callers: int = 8, deadline_s: float = 10.0, window_s: float = 5.0
) -> Outcome:
    """One of two, without a drain: what it does not finish, the client asks the other for."""
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
        f"knows both, asked without pause, deadline {deadline_s:g} s; {rounds} rounds.",
        figures={
            "calls under way at SIGTERM": f"{_ends(met)}; the longest took {seconds(met.slowest_s)}",
            "all calls": _ends(everything),
            "longest call": seconds(everything.slowest_s),
        },
        checks=[
            *kept(everything, deadline_s),
            Check("what was lost was Unavailable", _only_unavailable(everything)),
            Check(f"{MOST_LOST:.0%} of the calls were lost at most", _share_lost(everything) <= MOST_LOST),
        ],
    )


def drained_replica(
    repository: Path,
    *,
    callers: int = 8,
    deadline_s: float = 10.0,
    pre_stop_s: float = PRE_STOP_S,
    age_s: float = AGE_S,
    channel: Channel | None = None,
) -> Outcome:
    """One of two behind a headless service's name, as the manifests end a pod; each call is tried once."""
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
        did=f"One of two Tritons left DNS (a name server of our own, as of a headless service), served on for "
        f"{pre_stop_s:g} s as the manifests' preStop has it, with connections of {age_s:g} s at most, and got SIGTERM; "
        f"{callers} callers asked the name without pause, each call tried once, deadline {deadline_s:g} s.",
        figures={
            "requests to it after it had left DNS": f"{at_end - at_first:,}",
            "the last of them, after it had left DNS": seconds(last_s - left_s),
            "calls under way (at the other) at SIGTERM": _ends(met),
            "all calls": _ends(calls),
            "exit code (-N: ended by signal N)": str(code),
        },
        checks=[
            *kept(calls, deadline_s),
            Check("no call failed", not calls.failed),
            Check("clients had left it before SIGTERM", last_s < terminated_s - 2 * POLL_S),
        ],
    )


def _drain(server: Server, pre_stop_s: float) -> tuple[float, int]:
    """Let it serve on for so long; when its last request was seen, and how many there had been by then."""
    begin_s = last_s = time.monotonic()
    answered = answered_by(server)
    while time.monotonic() < begin_s + pre_stop_s:
        time.sleep(POLL_S)
        if (now := answered_by(server)) != answered:
            last_s, answered = time.monotonic(), now
    return last_s, answered


def _ends(calls: Rights) -> str:
    return f"{len(calls.ended):,}, of which answered: {len(calls.answered):,}; failed: {kinds(calls.errors())}"


def _only_unavailable(calls: Rights) -> bool:
    return set(calls.errors()) <= {"Unavailable"}


def _share_lost(calls: Rights) -> float:
    return len(calls.failed) / len(calls.ended)


def _wait_for_answers(calls: Rights, count: int) -> None:
    wait_until(lambda: len(calls.answered) >= count, f"{count} answers")
