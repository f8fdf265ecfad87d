"""Slow clients: they send a few bytes at a time, never read, or keep a connection and send nothing."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import socket

import psutil

from deploy.local import Server
from measure.server import footprint
from reliability import http2
from reliability.outcome import Check, Outcome
from reliability.questions import good_checks, passing, under_load
from reliability.raw_requests import small_request
from reliability.servers import AGE_S, GRACE_S, GROWTH_MIB, connection_age, connections_back, serving
from reliability.wording import good_figures

SILENT, IDLE, UNREAD, DRIPPING = (
    "connect and send nothing",
    "open HTTP/2 and send nothing more",
    "send a request and never read the answer",
    "send a request 3 bytes at a time",
)
DRIP_BYTES, DRIP_EVERY_S = 3, 0.25
JITTER, SLACK_S = 1.1, 60.0
"""gRPC may lengthen an age by a tenth; the rest is for a busy machine."""

Slow = Mapping[str, Sequence[socket]]


def slow_clients(
    repository: Path,
    *,
    connections: int = 200,
    callers: int = 4,
    deadline_s: float = 30.0,
    window_s: float = 150.0,
    age_s: int = AGE_S,
    grace_s: int = GRACE_S,
) -> Outcome:
    """Hold connections of each kind for `window_s` with gRPC's defaults, then on a server with a connection age."""
    with (
        serving(repository) as server,
        under_load(server.grpc_url, callers=callers, deadline_s=deadline_s) as calls,
    ):
        held, before = footprint(server.pid), passing(calls, window_s / 5)
        with _slow(server, repository, connections) as slow:
            beside, holds, still = passing(calls, window_s), footprint(server.pid), _open(server, slow)
        back = connections_back(server, held.connections)
        after, left = passing(calls, window_s / 5), footprint(server.pid)
    flags = connection_age(age_s, grace_s)
    with serving(repository, extra_args=flags) as server, _slow(server, repository, connections) as slow:
        closed_s = _seconds_until_closed(server, slow, seconds=JITTER * age_s + grace_s + SLACK_S)
    return Outcome(
        title="Slow clients",
        did=f"{connections} connections of each of {len(KINDS)} kinds were held for {window_s:g} s while {callers} "
        f"callers sent requests without pause; then again on a server with {' '.join(flags)}.",
        figures={
            **good_figures(calls, (before, window_s / 5), (beside, window_s), (after, window_s / 5)),
            "server before": str(held),
            "server with them": str(holds),
            "server after": str(left),
            "files left open": f"{left.files - held.files} for {connections} connections that {UNREAD}",
            **{
                f"those that {kind}": f"{still[kind]} of {connections} still open after {window_s:g} s; with the age, "
                + (f"all closed after {closed_s[kind]:.0f} s" if kind in closed_s else "some were not closed")
                for kind in KINDS
            },
        },
        checks=[
            *good_checks(calls, deadline_s),
            *(
                Check(f"{kind}: by default they stay open, the age closes them", still[kind] > 0 and kind in closed_s)
                for kind in (IDLE, UNREAD, DRIPPING)
            ),
            Check("their connections are closed when they leave", back),
            # Triton 2.51 keeps the file of each connection whose client leaves without reading its answer.
            Check(f"no file is left open except for clients that {UNREAD}", left.files <= held.files + connections),
            Check(f"memory grew by less than {GROWTH_MIB:g} MiB", left.grown_mib(held) < GROWTH_MIB),
        ],
    )


def _first_bytes(repository: Path) -> dict[str, bytes]:
    request = http2.data(http2.message(small_request(repository)))
    return {
        SILENT: b"",
        IDLE: http2.opening(),
        UNREAD: http2.opening(window=0) + http2.headers() + request,
        DRIPPING: http2.opening() + http2.headers() + http2.data(http2.message(b"", length=2**20), end=False),
    }


KINDS = (SILENT, IDLE, UNREAD, DRIPPING)


@contextmanager
def _slow(server: Server, repository: Path, connections: int) -> Iterator[Slow]:
    """Open connections of all kinds, and close them at the end."""
    stop = threading.Event()
    with ExitStack() as stack:
        slow: dict[str, list[socket]] = {}
        for kind, said in _first_bytes(repository).items():
            slow[kind] = [stack.enter_context(http2.connect(server.grpc_url)) for _ in range(connections)]
            for connection in slow[kind]:
                connection.sendall(said)
        thread = threading.Thread(target=_drip, args=(slow[DRIPPING], stop), daemon=True)
        thread.start()
        try:
            yield slow
        finally:
            stop.set()
            thread.join()


def _drip(connections: Sequence[socket], stop: threading.Event) -> None:
    left = list(connections)
    drop = http2.data(bytes(DRIP_BYTES), end=False)
    while not stop.wait(DRIP_EVERY_S):
        for connection in tuple(left):
            try:
                connection.sendall(drop)
            except ConnectionError:  # the server has closed it
                left.remove(connection)


def _open(server: Server, slow: Slow) -> dict[str, int]:
    """Count the server's open connections of each kind. A client would have to read to notice that one is closed."""
    held = psutil.Process(server.pid).net_connections("tcp")
    ports = {connection.raddr.port for connection in held if connection.status == psutil.CONN_ESTABLISHED}
    return {kind: sum(each.getsockname()[1] in ports for each in sockets) for kind, sockets in slow.items()}


def _seconds_until_closed(server: Server, slow: Slow, *, seconds: float) -> dict[str, float]:
    """Measure the time until no connection of a kind is left, for each kind that gets there within `seconds`."""
    started_s, closed_s = time.monotonic(), dict[str, float]()
    while (passed_s := time.monotonic() - started_s) < seconds and len(closed_s) < len(slow) - 1:
        for kind, count in _open(server, slow).items():
            if count == 0:
                closed_s.setdefault(kind, passed_s)
        time.sleep(0.1)
    return closed_s
