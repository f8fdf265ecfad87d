"""Triton for tests, ended at once, its processes, and ports that no other test is given."""

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from deploy.local import Server, ServerSettings
from reliability import servers

FIRST_PORT, PORTS = 21_000, 1_000
"""Below the range that Linux hands out for port 0; so many for each of xdist's workers."""


def serving(repository: Path, **settings: Any) -> AbstractContextManager[Server]:
    """Run a server in strict mode on free ports, killed at the end; `settings` are those of ServerSettings."""
    return servers.serving(repository, **{"cache_size_bytes": ServerSettings.cache_size_bytes, **settings})


def is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not, which stays where process 1 does not wait for its children."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody takes connections at a port, which is asked for a minute at most."""
    with socket.socket() as client:
        client.settimeout(60)
        return client.connect_ex((host, port)) == 0


def own_ports() -> Iterator[int]:
    """Ports of this worker that nobody listens on: the one that a test frees, it can take again."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in count(FIRST_PORT + PORTS * worker):
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
