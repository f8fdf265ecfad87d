"""The ensemble with the configs of the variant `gpu`: against raw ONNX Runtime, and setting by setting."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from altreco_client import contract
from altreco_client.call.wire import inputs

from benchmark.gpu.environment import CPU, CUDA, Found
from benchmark.gpu.raw import KEPT, from_host, open_sessions
from benchmark.gpu.repositories import Place, variant
from benchmark.gpu.settings import LIMIT_S, GpuSettings
from benchmark.loads import SERVER, Phase, caller, measure_load, phases, take_turns
from benchmark.peers.raw import batches
from deploy.local import Server, on_free_ports, serve
from export.config import vocabulary_size
from export.manifest import Precision
from export.served import connected
from measure.callers import Caller, closed_load, scheduled_load
from measure.requests import Request, new_requests
from measure.server import counters, grown
from measure.turns import by_turns

START_S = 300.0
"""Time for a server to start: each instance of a model allocates memory for the largest batch."""
SEED = 0
PARTS = {"queue_ns": "queue", "compute_input_ns": "input", "compute_infer_ns": "compute", "compute_output_ns": "output"}
"""Triton's counter to the part of a model's time."""

Figures = Mapping[str, Any]


@contextmanager
def running(settings: GpuSettings, place: Place, precision: Precision, **changes: Any) -> Iterator[Server]:
    """Run a server on the variant `gpu`, changed as in `repositories.variant`. Raises ExportError, ServerError."""
    with TemporaryDirectory(prefix="altreco-gpu-") as folder:
        repository = variant(place, settings, precision, Path(folder), **changes)
        cache = settings.load.cache_size_bytes
        with serve(on_free_ports(repository, cache_size_bytes=cache, start_timeout_s=START_S, **SERVER)) as server:
            yield server


def measure_served(settings: GpuSettings, place: Place, found: Found) -> dict[str, Any]:
    """Measure the server and raw ONNX Runtime in turns, in every precision. Raises ExportError, ServerError."""
    turns: dict[str, Any] = {}
    for precision in settings.precisions:
        turns[f"raw, {precision}"] = partial(_raw_turn, settings, place, precision)
        turns[f"served, {precision}"] = partial(_turn, settings, place, precision)
    return _taken(turns, settings)


def measure_batching(settings: GpuSettings, place: Place, found: Found) -> dict[str, Any]:
    """Measure with and without dynamic batching, in fp16. Raises ExportError, ServerError."""
    ways = {"with": True, "without": False}
    return _taken(
        {name: partial(_turn, settings, place, "fp16", batching=batching) for name, batching in ways.items()}, settings
    )


def measure_instances(settings: GpuSettings, place: Place, found: Found) -> dict[str, Any]:
    """Measure each number of instances of the visual encoder, in fp16. Raises ExportError, ServerError."""
    return _taken(
        {str(count): partial(_turn, settings, place, "fp16", instances=count) for count in settings.instances}, settings
    )


def _taken(turns: Mapping[str, Any], settings: GpuSettings) -> dict[str, Any]:
    return {
        "clients": settings.load.clients,
        "request": settings.request,
        "rounds": by_turns(turns, settings.load.rounds, title="served", limit_s=LIMIT_S),
    }


def _turn(settings: GpuSettings, place: Place, precision: Precision, **changes: Any) -> Figures:
    """Measure one server with one client, several clients and large requests, and where each model's time goes."""
    tags = vocabulary_size(place.configs)
    with running(settings, place, precision, **changes) as server:
        alone, together = (
            measure_load(server, phase, tags, settings.load) for phase in phases("new picture", 0.0, settings.load)
        )
        with connected(server.grpc_url) as client:
            before = counters(client)
            large = _large(server, tags, settings)
            after = counters(client)
    return {
        "p50_ms": alone["p50_ms"],
        "pictures_per_s": together["requests_per_s"],
        "p99_ms": together["p99_ms"],
        "large_pictures_per_s": large,
        "parts_ms": {
            model.name: {
                part: grown(before, after, model, counter) / max(1, grown(before, after, model, "requests")) / 1e6
                for counter, part in PARTS.items()
            }
            for model in contract.COMPONENTS
        },
    }


def _large(server: Server, tags: int, settings: GpuSettings) -> float:
    """Measure the pictures per second in requests of `request` pictures: few messages, so that gRPC costs little."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server.grpc_url)) for _ in range(settings.request_clients)]
        # New pictures each time: the cache holds the answers of whole requests.
        callers = [caller(client, map(_request, batches(settings.request, tags))) for client in clients]
        closed_load(callers, seconds=settings.load.warmup_s)
        return settings.request * closed_load(callers, seconds=settings.load.window_s).per_second


def _request(arrays: tuple[np.ndarray, np.ndarray]) -> Request:
    return inputs(*zip(contract.TAG_RECOMMENDER.inputs, arrays, strict=True))


def _raw_turn(settings: GpuSettings, place: Place, precision: Precision) -> Figures:
    """Measure ONNX Runtime in this process: one picture per call, and as many as in a large request."""
    tags = vocabulary_size(place.configs)
    sessions = open_sessions(settings, place, CUDA if place.gpu else CPU, precision)

    def load(size: int) -> Any:
        callers = [Caller(partial(from_host, sessions), cycle(list(islice(batches(size, tags), KEPT))))]
        closed_load(callers, seconds=settings.load.warmup_s)
        return closed_load(callers, seconds=settings.load.window_s)

    return {
        "p50_ms": load(1).percentile_ms(50),
        "large_pictures_per_s": settings.request * load(settings.request).per_second,
    }


def measure_rates(settings: GpuSettings, place: Place, found: Found) -> dict[str, Any]:
    """Measure latencies of an open load of single new pictures, in fp16. Raises ExportError, ServerError."""
    tags = vocabulary_size(place.configs)
    rows: list[dict[str, float]] = []
    with running(settings, place, "fp16") as server, ExitStack() as stack:
        clients = [stack.enter_context(connected(server.grpc_url)) for _ in range(settings.rate_callers)]
        callers = [caller(client, new_requests(tags)) for client in clients]
        closed_load(callers, seconds=settings.load.warmup_s)
        for rate in settings.rates_per_s:
            load = scheduled_load(callers, _moments(rate, settings.rate_s))
            rows.append(
                {
                    "rate_per_s": rate,
                    "answered_per_s": load.per_second,
                    **{f"p{percent}_ms": load.percentile_ms(percent) for percent in (50, 95, 99)},
                }
            )
            if rows[-1]["p99_ms"] > settings.slow_ms:
                break
    return {"rates": rows, "seconds": settings.rate_s}


def _moments(rate_per_s: float, seconds: float) -> list[float]:
    """Draw the moments of random arrivals (Poisson), in seconds; at least one."""
    gaps = np.random.default_rng(SEED).exponential(1 / rate_per_s, int(2 * rate_per_s * seconds) + 10)
    moments = gaps.cumsum() - gaps[0]
    early: list[float] = moments[moments < seconds].tolist()
    return early


def measure_cache(settings: GpuSettings, place: Place, found: Found) -> dict[str, Any]:
    """Measure shares of repeat pictures, in fp16. Raises ExportError, ServerError."""
    loads: list[Phase] = [
        phase
        for repeated in settings.load.hit_rates
        for phase in phases(f"{repeated:.0%} repeated", repeated, settings.load)
    ]
    with running(settings, place, "fp16") as server:
        load = take_turns({"served": server}, loads, vocabulary_size(place.configs), settings.load, "cache")
    return {"load": load["served"], "clients": settings.load.clients}
