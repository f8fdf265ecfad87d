"""Requests on a server that is not busy: short bursts, and an open load of random arrivals."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmark.peers.answers import Answer
from benchmark.peers.clients import Ask, Connect
from benchmark.peers.contestants import ENSEMBLE, Files, Serve, arriving, make_files
from benchmark.peers.settings import ArrivalSettings
from measure.callers import Caller, closed_load, percentile, random_moments, scheduled_load
from measure.markdown import number, table
from measure.requests import Arrays, new_arrays
from measure.turns import by_turns

SEED = 0


def measure_arrivals(
    settings: ArrivalSettings, preset: str, cache_size_bytes: int, configs: Path, folder: Path
) -> dict[str, Any]:
    """Measure all contestants in turn, with the same moments of arrival. Raises ExportError, ServerError."""
    files = make_files(preset, configs, settings.environments, folder, cache_size_bytes, peers=("litserve",))
    contestants = arriving(len(os.sched_getaffinity(0)))
    capacity = _capacity(*contestants[ENSEMBLE], files, settings)
    rate = settings.share * capacity
    turns = {
        name: partial(_turn, connect, serve, files, settings, _schedules(rate, settings))
        for name, (connect, serve) in contestants.items()
    }
    taken = by_turns(turns, settings.rounds, title="arrivals")
    return {
        "settings": {"rounds": settings.rounds, "spacing_ms": 1000 * settings.spacing_s, "share": settings.share},
        "capacity_per_s": capacity,
        "rate_per_s": rate,
        "bursts": {
            name: {size: list(chain.from_iterable(turn["bursts"][size] for turn in of)) for size in of[0]["bursts"]}
            for name, of in taken.items()
        },
        "open": {name: _figures([turn["open"] for turn in of]) for name, of in taken.items()},
    }


def _capacity(connect: Connect, serve: Serve, files: Files, settings: ArrivalSettings) -> float:
    """Measure the highest rate: requests per second in a closed loop."""
    with serve(files) as server, _callers(connect, server.address, settings.saturating, files.tags) as callers:
        closed_load(callers, seconds=settings.warmup_s)
        return closed_load(callers, seconds=4 * settings.warmup_s).per_second


def _schedules(rate: float, settings: ArrivalSettings) -> Iterator[list[float]]:
    """Yield the moments of random arrivals, in seconds, round by round; every contestant gets the same."""
    rng = np.random.default_rng(SEED)
    for _ in range(settings.rounds):
        yield random_moments(rng, rate, settings.open_s) or [0.0]


def _turn(
    connect: Connect, serve: Serve, files: Files, settings: ArrivalSettings, schedules: Iterator[list[float]]
) -> dict[str, Any]:
    """Measure the slowest request of each burst by its size, and the latencies of the open load, ms."""
    with serve(files) as server, _callers(connect, server.address, 2 * settings.saturating, files.tags) as callers:
        closed_load(callers[:2], seconds=settings.warmup_s)
        bursts = {size: [_burst(callers[:size], settings) for _ in range(settings.repeats)] for size in settings.bursts}
        return {"bursts": bursts, "open": list(scheduled_load(callers, next(schedules)).latencies_ms)}


def _burst(callers: Sequence[Caller[Any, Any]], settings: ArrivalSettings) -> float:
    """Send a burst, and return the latency of its slowest request, ms."""
    time.sleep(settings.idle_s)
    load = scheduled_load(callers, [settings.spacing_s * place for place in range(len(callers))])
    return max(load.latencies_ms)


@contextmanager
def _callers(connect: Connect, address: str, count: int, tags: int) -> Iterator[list[Caller[Arrays, Any]]]:
    with ExitStack() as stack:
        asks = [stack.enter_context(connect(address)) for _ in range(count)]
        yield [Caller(partial(_ask, ask), new_arrays(tags)) for ask in asks]


def _ask(ask: Ask, arrays: Arrays) -> Answer:
    return ask(*arrays)


def _figures(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    together = list(chain.from_iterable(rounds))
    return {
        "requests": len(together),
        "mean_ms": fmean(together),
        **{f"p{percent}_ms": percentile(together, percent) for percent in (50, 95, 99)},
        "rounds_mean_ms": [fmean(of) for of in rounds],
        "rounds_p95_ms": [percentile(of, 95) for of in rounds],
    }


def render_arrivals(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    of, bursts, open_load = section["settings"], section["bursts"], section["open"]
    sizes = list(next(iter(bursts.values())))
    most = max(row["requests"] for row in open_load.values())
    return [
        f"New pictures, in {of['rounds']} rounds, arriving at the same moments for all. Bursts on an idle server, with "
        f"{of['spacing_ms']:g} ms between requests:",
        "",
        *table(
            ["slowest request, ms: median (largest)", *(f"{size} requests" for size in sizes)],
            [
                [name, *(f"{number(median(values))} ({number(max(values))})" for values in of_name.values())]
                for name, of_name in bursts.items()
            ],
        ),
        "",
        f"{most:,} random arrivals (Poisson), {number(section['rate_per_s'])} per second, {of['share']:.0%} of the "
        "ensemble's highest rate:",
        "",
        *table(
            ["ms", "mean", "p50", "p95", "p99"],
            [
                [name, *(number(row[key]) for key in ("mean_ms", "p50_ms", "p95_ms", "p99_ms"))]
                for name, row in open_load.items()
            ],
        ),
        "",
        "A queue timeout turns off Triton's prefetching: then the batcher notices an idle instance only at the next "
        "arrival, or after 500 ms.",
        "",
    ]
