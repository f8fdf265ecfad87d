"""One turn of a contestant: start it, check its answers, load it, measure its memory, and end it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from benchmark.peers.answers import Answer
from benchmark.peers.clients import Ask, Connect
from benchmark.peers.contestants import ENSEMBLE, Contestant, Files, Serve, raw
from benchmark.peers.errors import PeerError
from benchmark.peers.onnx_tags import OnnxTags
from benchmark.peers.settings import PeerSettings
from benchmark.peers.tuning import Tuning
from measure.callers import Caller, Load, closed_load
from measure.requests import Arrays, known, new_arrays
from measure.server import footprint

TOLERANCE = 1e-5
"""Largest accepted difference of a score between engines."""
SEED = 0


@dataclass(frozen=True)
class Turn:
    """Results of a turn. Loads are by number of clients; `repeat` (repeat pictures) is empty without a cache."""

    new: dict[int, Load]
    repeat: dict[int, Load]
    memory: dict[str, int]
    difference: float


def reference(files: Files, count: int) -> list[tuple[Arrays, Answer]]:
    """Make `count` pictures, with the answers of ONNX Runtime in this process."""
    model = OnnxTags(files.repository, threads=1, spin=False)
    return [(arrays, model.answer(*arrays)[0]) for arrays in islice(new_arrays(files.tags, SEED), count)]


def take_turn(
    contestant: Contestant,
    serve: Serve,
    files: Files,
    expected: Sequence[tuple[Arrays, Answer]],
    settings: PeerSettings,
) -> Turn:
    """Take the turn of a server. Raises PeerError, ServerError, ServerFailure."""
    with serve(files) as server:
        with contestant.connect(server.address) as ask:
            difference = _difference(contestant.name, ask, expected)
        new = {
            clients: loaded(contestant.connect, server.address, clients, files.tags, settings, repeat=False)
            for clients in settings.clients
        }
        memory = _memory(server.pid)
        repeat = {
            clients: loaded(contestant.connect, server.address, clients, files.tags, settings, repeat=True)
            for clients in settings.clients
            if contestant.name == ENSEMBLE
        }
        return Turn(new, repeat, memory, difference)


def take_raw_turn(alone: Tuning, saturated: Tuning, files: Files, settings: PeerSettings) -> Turn:
    """Take the turn of raw ONNX Runtime, with the tuning `alone` for one client and `saturated` for several."""
    with raw(files) as process:
        new = {}
        for clients in settings.clients:
            tuning = alone if clients == 1 else saturated
            process.load(tuning, settings.warmup_s)
            new[clients] = process.load(tuning, settings.window_s)
        return Turn(new, {}, _memory(process.pid), 0.0)


def try_way(contestant: Contestant, serve: Serve, files: Files, settings: PeerSettings) -> float:
    """Measure the requests per second of a server under the saturating load."""
    with (
        serve(files) as server,
        _connections(contestant.connect, server.address, settings.clients[-1]) as asks,
    ):
        return _warm_load(asks, _streams(asks, files.tags), settings.warmup_s, settings.tuning_s).per_second


def try_raw_tuning(tuning: Tuning, files: Files, settings: PeerSettings) -> float:
    """Measure the requests per second of raw ONNX Runtime."""
    with raw(files) as process:
        process.load(tuning, settings.warmup_s)
        return process.load(tuning, settings.tuning_s).per_second


@contextmanager
def _connections(connect: Connect, address: str, count: int) -> Iterator[list[Ask]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connect(address)) for _ in range(count)]


def _memory(pid: int) -> dict[str, int]:
    held = footprint(pid)
    return {"rss": held.resident_bytes, "pss": held.memory_bytes}


def loaded(connect: Connect, address: str, clients: int, tags: int, settings: PeerSettings, *, repeat: bool) -> Load:
    """Measure a closed load of new or of repeat pictures, after its warm-up."""
    with _connections(connect, address, clients) as asks:
        again = known(new_arrays(tags))
        for arrays in again if repeat else ():
            asks[0](*arrays)
        streams = [cycle(again) for _ in asks] if repeat else _streams(asks, tags)
        return _warm_load(asks, streams, settings.warmup_s, settings.window_s)


def _streams(asks: Sequence[Ask], tags: int) -> list[Iterator[Arrays]]:
    return [new_arrays(tags) for _ in asks]


def _warm_load(asks: Sequence[Ask], streams: Sequence[Iterator[Arrays]], warmup_s: float, window_s: float) -> Load:
    callers = [Caller(_spread(ask), stream) for ask, stream in zip(asks, streams, strict=True)]
    closed_load(callers, seconds=warmup_s)
    return closed_load(callers, seconds=window_s)


def _spread(ask: Ask) -> Callable[[Arrays], Answer]:
    return lambda arrays: ask(*arrays)


def _difference(name: str, ask: Ask, expected: Sequence[tuple[Arrays, Answer]]) -> float:
    """Compute the largest difference of a score. Raises PeerError if the tags differ."""
    largest = 0.0
    for arrays, wanted in expected:
        answer = ask(*arrays)
        apart = np.abs(np.array([score for _, score in answer]) - [score for _, score in wanted]).max()
        if {tag for tag, _ in answer} != {tag for tag, _ in wanted} or apart > TOLERANCE:
            raise PeerError(f"{name} answered {answer}, ONNX Runtime {wanted}: they do not serve the same model")
        largest = max(largest, float(apart))
    return largest
