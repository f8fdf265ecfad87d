"""Clients that are killed with requests in flight, and connections that end in the middle of one."""

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from deploy.local import Server
from deploy.local.process import piped
from measure.server import connections, footprint
from reliability import http2
from reliability.outcome import Check, Outcome
from reliability.questions import good_checks, passing, under_load
from reliability.raw_requests import ensemble_request
from reliability.servers import GROWTH_MIB, connections_back, files_back, serving
from reliability.wording import good_figures

ROOT = Path(__file__).parents[1]
ROUNDS = 2
IN_FLIGHT = 4
"""Requests in flight per process."""


def vanishing_clients(
    repository: Path,
    *,
    processes: int = 40,
    sockets: int = 400,
    at_once: int = 4,
    callers: int = 4,
    deadline_s: float = 30.0,
    window_s: float = 10.0,
) -> Outcome:
    """Kill client processes, `at_once` at a time, and close sockets in the middle of a request."""
    request = ensemble_request(repository)
    with (
        serving(repository) as server,
        under_load(server.grpc_url, callers=callers, deadline_s=deadline_s) as calls,
    ):
        connected, before, started_s = connections(server.pid), passing(calls, window_s), time.monotonic()
        held, back = [footprint(server.pid)], True
        for _ in range(ROUNDS):
            _vanish(server, request, processes=processes, sockets=sockets, at_once=at_once)
            back = connections_back(server, connected) and back
            held.append(footprint(server.pid))
        closed = files_back(server, held[-2].files)
        during, took_s = calls.since(started_s), time.monotonic() - started_s
        after = passing(calls, window_s)
    return Outcome(
        title="Clients vanish in the middle of requests",
        did=f"{processes} client processes, each with {IN_FLIGHT} requests in flight, were ended with kill -9, and "
        f"{sockets} connections closed or reset in the middle of one, while {callers} callers sent requests without "
        f"pause; {ROUNDS} rounds, because in the first one the server allocates memory for larger batches.",
        figures={
            **good_figures(calls, (before, window_s), (during, took_s), (after, window_s)),
            "server before": str(held[0]),
            **{f"server after round {number}": str(each) for number, each in enumerate(held[1:], start=1)},
        },
        checks=[
            *good_checks(calls, deadline_s),
            Check("their connections are closed", back),
            Check("no file is left open by the last round", closed),
            Check(
                f"memory grew by less than {GROWTH_MIB:g} MiB in the last round",
                held[-1].grown_mib(held[-2]) < GROWTH_MIB,
            ),
        ],
    )


def _vanish(server: Server, request: bytes, *, processes: int, sockets: int, at_once: int) -> None:
    for first in range(0, processes, at_once):
        with ExitStack() as stack:
            clients = [stack.enter_context(_asking(server, request)) for _ in range(min(at_once, processes - first))]
            for client in clients:
                assert client.stdout is not None
                if client.stdout.readline() != b"asks\n":
                    raise RuntimeError(f"a client process ended before it was killed, exit code {client.wait()}")
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda number: _cut(server, request, number), range(sockets)))


@contextmanager
def _asking(server: Server, request: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """Run a client process that sends requests; it is killed at the end."""
    command = [sys.executable, "-m", "reliability.asking", server.grpc_url, str(IN_FLIGHT)]
    with piped(command, cwd=ROOT) as process:
        assert process.stdin is not None
        process.stdin.write(request)
        process.stdin.close()
        yield process


def _cut(server: Server, request: bytes, number: int) -> None:
    """Open a connection and end it somewhere in the request, every other one by a reset."""
    head = http2.opening() + http2.headers()
    body = http2.data(http2.message(request))[: http2.WINDOW_BYTES]
    with http2.connect(server.grpc_url) as connection:
        connection.sendall(head + body[: int(np.random.default_rng(number).integers(1, len(body)))])
        if number % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
