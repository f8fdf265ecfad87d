"""Size of requests and answers on the wire."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmark.peers.clients import Connect
from measure.requests import new_arrays

WEIGHED = 20
CHUNK = 1 << 18


def wire_bytes(connect: Connect, address: str, tags: int) -> dict[str, float]:
    """Measure the mean bytes of a request and of an answer on a warm connection, with headers and frames."""
    with _relay(address) as relay, connect(relay.address) as ask:
        stream = new_arrays(tags)
        ask(*next(stream))
        before = dict(relay.counts)
        for _ in range(WEIGHED):
            ask(*next(stream))
        return {name: (count - before[name]) / WEIGHED for name, count in relay.counts.items()}


@dataclass(frozen=True)
class _Relay:
    address: str
    counts: dict[str, int] = field(default_factory=lambda: {"request": 0, "answer": 0})


@contextmanager
def _relay(address: str) -> Iterator[_Relay]:
    """Relay one connection to `address` and count its bytes."""
    host, port = address.split(":")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        relay = _Relay("{}:{}".format(*listening.getsockname()))
        thread = threading.Thread(target=_pass_on, args=(listening, (host, int(port)), relay.counts), daemon=True)
        thread.start()
        yield relay
    thread.join()


def _pass_on(listening: socket.socket, target: tuple[str, int], counts: dict[str, int]) -> None:
    with listening.accept()[0] as near, socket.create_connection(target) as far:
        ways = {near: (far, "request"), far: (near, "answer")}
        while True:
            for readable in select.select(list(ways), [], [])[0]:
                data = readable.recv(CHUNK)
                if not data:
                    return
                other, name = ways[readable]
                counts[name] += len(data)
                other.sendall(data)
