"""One turn of one contestant: it is started, compared, loaded, weighed, and ended."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from benchmark.peers.answers import Answer
from benchmark.peers.clients import Ask, Connect
from benchmark.peers.contestants import ENSEMBLE, Contestant, Files, Serve, raw
from benchmark.peers.errors import PeerError
from benchmark.peers.load import (
    Load,
    Picture,
    closed_load,
    connections,
    known_pictures,
    memory_bytes,
    new_pictures,
    wire_bytes,
)
from benchmark.peers.onnx_tags import OnnxTags
from benchmark.peers.settings import PeerSettings
from benchmark.peers.tuning import Tuning

TOLERANCE = 1e-5
"""Of a score that several engines compute."""
SEED = 0


@dataclass(frozen=True)
class Turn:
    """Loads by the number of clients, of new pictures; of repeat ones where there is a cache; and what it takes."""

    new: dict[int, Load]
    repeat: dict[int, Load]
    memory: dict[str, int]
    wire: dict[str, float]
    difference: float


def reference(files: Files, count: int) -> list[tuple[Picture, Answer]]:
    """So many pictures, and what ONNX Runtime answers to them here."""
    model = OnnxTags(files.repository, threads=1, spin=False)
    pictures = [(image.copy(), history) for image, history in islice(new_pictures(files.tags, SEED), count)]
    return [(picture, model.answer(*picture)[0]) for picture in pictures]


def take_turn(
    contestant: Contestant,
    serve: Serve,
    files: Files,
    expected: Sequence[tuple[Picture, Answer]],
    settings: PeerSettings,
) -> Turn:
    """Of a server; raises PeerError, ServerError, ServerFailure."""
    with serve(files) as server:
        with contestant.connect(server.address) as ask:
            difference = _difference(contestant.name, ask, expected)
        new = {
            clients: _loaded(contestant.connect, server.address, clients, files.tags, settings, repeat=False)
            for clients in settings.clients
        }
        memory = memory_bytes(server.pid)
        repeat = {
            clients: _loaded(contestant.connect, server.address, clients, files.tags, settings, repeat=True)
            for clients in settings.clients
            if contestant.name == ENSEMBLE
        }
        return Turn(new, repeat, memory, wire_bytes(contestant.connect, server.address, files.tags), difference)


def take_raw_turn(alone: Tuning, saturated: Tuning, files: Files, settings: PeerSettings) -> Turn:
    """Of ONNX Runtime without a server: `alone` in place of one client, `saturated` in place of several."""
    with raw(files) as process:
        new = {}
        for clients in settings.clients:
            tuning = alone if clients == 1 else saturated
            process.load(tuning, settings.warmup_s)
            new[clients] = process.load(tuning, settings.window_s)
        return Turn(new, {}, memory_bytes(process.pid), {"request": 0, "answer": 0}, 0.0)


def try_way(contestant: Contestant, serve: Serve, files: Files, settings: PeerSettings) -> float:
    """Requests a second when saturated."""
    with (
        serve(files) as server,
        connections(contestant.connect, server.address, settings.clients[-1]) as asks,
    ):
        return per_second(_warm_load(asks, _streams(asks, files.tags), settings.warmup_s, settings.tuning_s))


def try_raw_tuning(tuning: Tuning, files: Files, settings: PeerSettings) -> float:
    """Pictures a second."""
    with raw(files) as process:
        process.load(tuning, settings.warmup_s)
        return per_second(process.load(tuning, settings.tuning_s))


def per_second(load: Load) -> float:
    """Requests."""
    return len(load.latencies_ms) / load.seconds


def _loaded(connect: Connect, address: str, clients: int, tags: int, settings: PeerSettings, *, repeat: bool) -> Load:
    with connections(connect, address, clients) as asks:
        known = known_pictures(tags)
        for picture in known if repeat else ():
            asks[0](*picture)
        streams = [cycle(known) for _ in asks] if repeat else _streams(asks, tags)
        return _warm_load(asks, streams, settings.warmup_s, settings.window_s)


def _streams(asks: Sequence[Ask], tags: int) -> list[Iterator[Picture]]:
    return [new_pictures(tags) for _ in asks]


def _warm_load(asks: Sequence[Ask], streams: Sequence[Iterator[Picture]], warmup_s: float, window_s: float) -> Load:
    closed_load(asks, streams, warmup_s)
    return closed_load(asks, streams, window_s)


def _difference(name: str, ask: Ask, expected: Sequence[tuple[Picture, Answer]]) -> float:
    """The largest of any score; raises PeerError where the tags are not the same."""
    largest = 0.0
    for picture, wanted in expected:
        answer = ask(*picture)
        apart = np.abs(np.array([score for _, score in answer]) - [score for _, score in wanted]).max()
        if {tag for tag, _ in answer} != {tag for tag, _ in wanted} or apart > TOLERANCE:
            raise PeerError(f"{name} answered {answer}, ONNX Runtime {wanted}: they do not serve the same model")
        largest = max(largest, float(apart))
    return largest
