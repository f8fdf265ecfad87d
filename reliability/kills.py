"""kill -9 of a server, of one of two replicas, and of a process of Triton's Python backend, under load."""

import http
import http.client
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.local import Server
from export.probe import write_requests
from measure.callers import Call, Calls
from measure.markdown import seconds
from measure.waiting import wait_until
from reliability.outcome import Check, Outcome
from reliability.questions import kept, passing, under_load
from reliability.servers import addresses, all_of, answered_by, exit_code, kill, probe, serving, stubs
from reliability.wording import kinds, speed

SETTLED_S = 1.0
"""Time to wait after a restarted server's first answer: each connection is retried only every half second."""
GONE = {"Unavailable", "DeadlineExceeded"}
"""Errors that a call may raise when there is no server."""


def killed_server(repository: Path, *, callers: int = 8, deadline_s: float = 2.0, window_s: float = 10.0) -> Outcome:
    """Kill the only server and restart it at once, as a supervisor does."""
    with (
        serving(repository) as first,
        under_load(first.grpc_url, callers=callers, deadline_s=deadline_s) as calls,
    ):
        before = passing(calls, window_s)
        killed_s = time.monotonic()
        kill(first)
        exit_code(first)
        with serving(repository, **addresses(first)):
            ready_s = time.monotonic()
            wait_until(lambda: bool(calls.since(killed_s).answered), "an answer of the restarted server")
            back_s = min(call.ended_s for call in calls.since(killed_s).answered)
            time.sleep(SETTLED_S)
            after = passing(calls, window_s)
    failed = calls.failed
    return Outcome(
        title="A server is killed",
        did=f"kill -9 of the only Triton while {callers} callers sent requests without pause, deadline "
        f"{deadline_s:g} s. It was restarted at once on the same port.",
        figures={
            "before": speed(before, window_s),
            "calls that failed": f"{len(failed):,} of {len(calls.ended):,}: {kinds(calls.errors())}",
            "first call that failed, after the kill": _first(failed, killed_s),
            "server ready again, after the kill": seconds(ready_s - killed_s),
            "first answer, after the kill": seconds(back_s - killed_s),
            "longest call": seconds(calls.slowest_s),
            "after": speed(after, window_s),
        },
        checks=[
            *kept(calls, deadline_s),
            Check("no call failed before the kill", not before.failed),
            Check(f"callers got {' or '.join(sorted(GONE))}, nothing else", set(calls.errors()) <= GONE),
            Check(
                f"{SETTLED_S:g} s after the first new answer, every call was answered",
                bool(after.answered) and not after.failed,
            ),
        ],
    )


def killed_replica(repository: Path, *, callers: int = 8, deadline_s: float = 10.0, window_s: float = 10.0) -> Outcome:
    """Kill one of two replicas that the client knows, and restart it later."""
    with (
        serving(repository) as one,
        serving(repository) as other,
        under_load(all_of(one, other), callers=callers, deadline_s=deadline_s) as calls,
    ):
        before = passing(calls, window_s)
        killed_s = time.monotonic()
        kill(one)
        exit_code(one)
        alone = passing(calls, window_s)
        with serving(repository, **addresses(one)) as back:
            ready_s = time.monotonic()
            wait_until(lambda: answered_by(back) > 0, "an answer of the restarted replica")
            back_s = time.monotonic()
            after = passing(calls, window_s)
    met = calls.under_way(killed_s)
    return Outcome(
        title="One of two replicas is killed",
        did=f"kill -9 of one of two Tritons (on the same cores) while {callers} callers, whose client knows both, sent "
        f"requests without pause, deadline {deadline_s:g} s; it was restarted {window_s:g} s later.",
        figures={
            "before": speed(before, window_s),
            "calls in flight at the kill": f"{len(met.ended)}, of which failed: {len(met.failed)}; "
            f"the longest took {seconds(met.slowest_s)}",
            "with one replica left": speed(alone, window_s),
            "calls that failed": f"{len(calls.failed):,} of {len(calls.ended):,}: {kinds(calls.errors())}",
            "first answer of the restarted replica, after it was ready": seconds(back_s - ready_s),
            "after": speed(after, window_s),
        },
        checks=[
            *kept(calls, deadline_s),
            Check("no call failed", not calls.failed),
            Check("the restarted replica gets requests again", bool(after.answered)),
        ],
    )


def killed_backend(
    repository: Path,
    *,
    model: str = "visual_encoder",
    callers: int = 8,
    deadline_s: float = 10.0,
    window_s: float = 10.0,
) -> Outcome:
    """Kill all processes in which the Python backend runs one of the models."""
    with tempfile.TemporaryDirectory(prefix="altreco-reliability-") as folder:
        models = shutil.copytree(repository, Path(folder, "models"))
        release = int(write_requests(models).parent.name)
        with (
            serving(models) as server,
            under_load(server.grpc_url, callers=callers, deadline_s=deadline_s) as calls,
        ):
            before = passing(calls, window_s)
            well = _probes(server, models, release)
            killed_s = time.monotonic()
            for stub in stubs(server, model):
                stub.kill()
            wait_until(lambda: bool(calls.since(killed_s).failed), f"a failed call without {model}")
            time.sleep(window_s)
            says_ready = _says_ready(server)
            ill = _probes(server, models, release)
            restarted_s = time.monotonic()
            kill(server)
            exit_code(server)
            with serving(models, **addresses(server)):
                wait_until(lambda: bool(calls.since(restarted_s).answered), "an answer after the restart")
                time.sleep(SETTLED_S)
                after = passing(calls, window_s)
    meanwhile = Calls([call for call in calls.ended if killed_s < call.ended_s < restarted_s])
    return Outcome(
        title="A process of the Python backend is killed",
        did=f"kill -9 of the process in which the local Triton's Python backend runs `{model}`, while {callers} "
        f"callers sent requests without pause, deadline {deadline_s:g} s; later the server was restarted. Production "
        "has no such process: its ONNX Runtime backend runs inside tritonserver, so there it would be a killed server.",
        figures={
            "before": speed(before, window_s),
            "calls from the kill to the restart": f"{len(meanwhile.answered):,} answered, "
            f"{len(meanwhile.failed):,} failed: {kinds(meanwhile.errors())}",
            "longest of them": seconds(meanwhile.slowest_s),
            "Triton's own readiness after the kill": "ready" if says_ready else "not ready",
            **{f"`probe.sh {kind}`, before and after": f"{_word(well[kind])}, {_word(ill[kind])}" for kind in well},
            "after the restart": speed(after, window_s),
        },
        checks=[
            *kept(calls, deadline_s),
            Check("callers got ServerFailed, nothing else", set(meanwhile.errors()) == {"ServerFailed"}),
            Check("the golden probe passes before the kill and fails after it", well["golden"] and not ill["golden"]),
            Check("a restart repairs it", bool(after.answered) and not after.failed),
        ],
    )


def _first(failed: Sequence[Call], since_s: float) -> str:
    return seconds(min(call.ended_s for call in failed) - since_s) if failed else "none failed"


def _word(passed: bool) -> str:
    return "passes" if passed else "fails"


def _probes(server: Server, models: Path, release: int) -> dict[str, bool]:
    return {kind: probe(server, kind, models=models, release=release) for kind in ("live", "ready", "golden")}


def _says_ready(server: Server) -> bool:
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    finally:
        connection.close()
