"""A peer's server in a context: ready on entry, all its processes ended on exit."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import urllib3

from benchmark.peers.clients import Connect
from benchmark.peers.errors import PeerError
from benchmark.peers.tuning import Tuning
from deploy.local.process import EndedAtStart, NotReady, Running, free_port, running, wait_until_ready
from measure.requests import Arrays

ROOT = Path(__file__).parents[2]
START_S, STOP_S = 120.0, 10.0
LOG_BYTES = 2000
PORT = "PORT"
"""Placeholder for the port in a server's command."""


@dataclass(frozen=True)
class Served:
    """A ready server: host:port, and the pid of the root of its processes."""

    address: str
    pid: int


@contextlib.contextmanager
def http_server(
    name: str,
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    connect: Connect,
    picture: Arrays,
    *,
    start_s: float = START_S,
) -> Iterator[Served]:
    """Run the command and yield its server once it answers `picture`. Raises PeerError."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    with running(
        [str(port) if word == PORT else word for word in command],
        log_path=folder / f"{name}.log",
        stop_timeout_s=STOP_S,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
    ) as process:
        _wait_until_answering(name, process, lambda: _problem(connect, address, picture), start_s)
        yield Served(address, process.pid)


def peer_variables(repository: Path, tuning: Tuning) -> dict[str, str]:
    """Return the environment of a peer's server. OpenMP's threads (PyTorch's) must not spin: they share its cores."""
    return {
        **tuning.environment(),
        "PEER_REPOSITORY": str(repository.resolve()),
        "OMP_NUM_THREADS": str(tuning.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _problem(connect: Connect, address: str, picture: Arrays) -> str | None:
    """Explain why the server does not answer; None once it does."""
    try:
        with connect(address) as ask:
            ask(*picture)
    except (urllib3.exceptions.HTTPError, PeerError) as error:
        return str(error)
    return None


def _wait_until_answering(name: str, process: Running, problem: Callable[[], str | None], start_s: float) -> None:
    try:
        wait_until_ready(process, problem, start_s)
    except NotReady as error:
        reason = f"did not answer within {start_s:g} s ({error.problem})"
        if isinstance(error, EndedAtStart):
            reason = f"ended at its start (exit code {error.exit_code})"
        raise PeerError(f"{name} {reason}:\n{process.log()[-LOG_BYTES:]}") from error
