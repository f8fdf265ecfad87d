"""Runs a peer's server as a context manager: it has answered when entered, and every process is gone when left."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import urllib3

from benchmark.peers.clients import Connect
from benchmark.peers.errors import PeerError
from benchmark.peers.tuning import Tuning
from deploy.local.tied import tied
from measure.requests import Arrays

ROOT = Path(__file__).parents[2]
START_S, STOP_S = 120.0, 10.0
POLL_S = 0.1
LOG_BYTES = 2000
PORT = "PORT"
"""Stands for the port in a server's command."""


@dataclass(frozen=True)
class Served:
    """A server that is ready: host:port, and the process that all of its others are below."""

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
    """The command's server, once it answers the picture; raises PeerError."""
    port = _free_port()
    address = f"127.0.0.1:{port}"
    words = [str(port) if word == PORT else word for word in command]
    log_path = folder / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            tied(words),
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is for us alone
        )
    try:
        _wait_until_answering(name, process, log_path, lambda: _answers(connect, address, picture), start_s)
        yield Served(address, process.pid)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        # Workers that outlive it have nothing left to do.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def peer_variables(repository: Path, tuning: Tuning) -> dict[str, str]:
    """What a peer's server is told. OpenMP's threads are PyTorch's; while they spin, they take the server's cores."""
    return {
        **tuning.environment(),
        "PEER_REPOSITORY": str(repository.resolve()),
        "OMP_NUM_THREADS": str(tuning.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _answers(connect: Connect, address: str, picture: Arrays) -> str | None:
    """What is wrong; None once it answers."""
    try:
        with connect(address) as ask:
            ask(*picture)
    except (urllib3.exceptions.HTTPError, PeerError) as error:
        return str(error)
    return None


def _wait_until_answering(
    name: str, process: subprocess.Popen[bytes], log_path: Path, asked: Callable[[], str | None], start_s: float
) -> None:
    deadline = time.monotonic() + start_s
    while reason := asked():
        log = log_path.read_text(errors="replace")[-LOG_BYTES:]
        if process.poll() is not None:
            raise PeerError(f"{name} ended at its start (exit code {process.returncode}):\n{log}")
        if time.monotonic() > deadline:
            raise PeerError(f"{name} did not answer within {start_s:g} s ({reason}):\n{log}")
        time.sleep(POLL_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
        return port
