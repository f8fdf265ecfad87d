"""What a server's processes hold on the machine: memory, files, connections, threads."""

from dataclasses import dataclass

import psutil

from deploy.local import Server
from reliability.callers import wait_until
from reliability.wording import mib

GROWTH_MIB = 64.0
"""More is not the noise of allocators, which keep what is free."""
CLOSED_S = 60.0
"""After which a connection that its client ended must be gone."""


@dataclass(frozen=True)
class Footprint:
    """Of the server and its backend's processes together; `connections` are those that clients have to its ports."""

    memory_bytes: int
    files: int
    connections: int
    threads: int

    def grown_mib(self, before: "Footprint") -> float:
        """By how much memory, MiB."""
        return (self.memory_bytes - before.memory_bytes) / 1024**2

    def __str__(self) -> str:
        """For a figure."""
        return (
            f"{mib(self.memory_bytes)}, {self.files:,} open files, {self.connections:,} connections, "
            f"{self.threads:,} threads"
        )


def footprint(server: Server) -> Footprint:
    """As it is now; memory is the proportional size, so that what processes share counts once."""
    root = psutil.Process(server.pid)
    tree = [root, *root.children(recursive=True)]
    return Footprint(
        sum(process.memory_full_info().pss for process in tree),
        sum(process.num_fds() for process in tree),
        connections(server),
        sum(process.num_threads() for process in tree),
    )


def connections(server: Server) -> int:
    """Of clients to the server's ports, whatever state they are in."""
    held = psutil.Process(server.pid).net_connections("tcp")
    return sum(connection.status != psutil.CONN_LISTEN for connection in held)


def connections_back(server: Server, count: int) -> bool:
    """Whether there are no more than so many again, after CLOSED_S at most."""
    try:
        wait_until(lambda: connections(server) <= count, "closed connections", seconds=CLOSED_S)
    except TimeoutError:
        return False
    return True
