"""A closed load on anything that can be asked, what it weighs on the wire, and in memory."""

import itertools
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import psutil
from altreco_client import contract

from benchmark.peers.clients import Ask, Connect

TAGS_IN_HISTORY = 20
KNOWN_PICTURES = 8
WEIGHED = 20
CHUNK = 1 << 18

Picture = tuple[np.ndarray, np.ndarray]
"""Image uint8 [1, 224, 224, 3] and history float32 [1, N]."""


@dataclass(frozen=True)
class Load:
    """A latency for each request, seconds from the first to the last answer's end, CPU seconds of this process."""

    latencies_ms: Sequence[float]
    seconds: float
    cpu_s: float


def new_pictures(tags: int, seed: int | None = None) -> Iterator[Picture]:
    """Without end, of one user, each with a picture that nobody has asked for before; one array, changed in place."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (1, *contract.IMAGE.dims), dtype=np.uint8)
    history = np.zeros((1, tags), dtype=np.float32)
    history[0, rng.choice(tags, TAGS_IN_HISTORY, replace=False)] = 1
    while True:
        image[0, 0] = rng.integers(0, 256, image[0, 0].shape, dtype=np.uint8)
        yield image, history


def known_pictures(tags: int) -> list[Picture]:
    """A few that differ."""
    return [(image.copy(), history) for image, history in itertools.islice(new_pictures(tags), KNOWN_PICTURES)]


def closed_load(asks: Sequence[Ask], streams: Sequence[Iterator[Picture]], seconds: float) -> Load:
    """A thread for each; it asks again as soon as it has its answer. Requests under way at the end are waited for."""
    started, cpu = time.perf_counter(), time.process_time()

    def run(ask: Ask, stream: Iterator[Picture]) -> list[float]:
        latencies = []
        while time.perf_counter() < started + seconds:
            picture = next(stream)
            sent = time.perf_counter()
            ask(*picture)
            latencies.append(1000 * (time.perf_counter() - sent))
        return latencies

    with ThreadPoolExecutor(len(asks)) as pool:
        latencies = [latency for part in pool.map(run, asks, streams) for latency in part]
    return Load(latencies, time.perf_counter() - started, time.process_time() - cpu)


@contextmanager
def connections(connect: Connect, address: str, count: int) -> Iterator[list[Ask]]:
    """So many."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(address)) for _ in range(count)]


def memory_bytes(pid: int) -> dict[str, int]:
    """Of the process and all below it: resident (pages that they share count in each), and proportional (once)."""
    process = psutil.Process(pid)
    parts = [of.memory_full_info() for of in (process, *process.children(recursive=True))]
    return {"rss": sum(part.rss for part in parts), "pss": sum(part.pss for part in parts)}


def wire_bytes(connect: Connect, address: str, tags: int) -> dict[str, float]:
    """What crosses the socket for a request and for an answer, headers and frames included, on a warm connection."""
    with _relay(address) as relay, connect(relay.address) as ask:
        stream = new_pictures(tags)
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
    """One connection to it, counted in between."""
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
