"""The ensemble against raw ONNX Runtime, its three models called separately, and other model servers."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from benchmark.peers.contestants import ENSEMBLE, PEERS, RAW, Files, contestants, make_files, raw_tunings
from benchmark.peers.environments import peer_versions
from benchmark.peers.race import Turn, reference, take_raw_turn, take_turn, try_raw_tuning, try_way
from benchmark.peers.settings import PeerSettings
from benchmark.peers.tuning import Tuning
from measure.callers import Load, percentile
from measure.markdown import cell, number, ratios, table
from measure.progress import progress_bar
from measure.turns import by_turns

T = TypeVar("T")


def measure_peers(
    settings: PeerSettings, preset: str, cache_size_bytes: int, configs: Path, folder: Path
) -> dict[str, Any]:
    """Tune every contestant, then measure all in turn. Raises ExportError, ServerError."""
    cores = len(os.sched_getaffinity(0))
    files = make_files(preset, configs, settings.environments, folder, cache_size_bytes)
    expected = reference(files, settings.compared_pictures)
    tried: dict[str, dict[str, float]] = {}
    label, alone, saturated = _tuned_raw(cores, files, settings, tried)
    tunings = {RAW: label}
    turns: dict[str, Callable[[], Turn]] = {RAW: partial(take_raw_turn, alone, saturated, files, settings)}
    for contestant in contestants(cores):
        name, ways = contestant.name, dict(islice(contestant.ways.items(), settings.ways))
        if len(ways) > 1:
            tried[name] = {way: try_way(contestant, run, files, settings) for way, run in _shown(name, ways)}
        tunings[name] = max(ways, key=tried[name].__getitem__) if name in tried else next(iter(ways))
        turns[name] = partial(take_turn, contestant, ways[tunings[name]], files, expected, settings)
    taken = by_turns(turns, settings.rounds, title="peers")
    return {
        "settings": {"rounds": settings.rounds, "window_s": settings.window_s, "clients": list(settings.clients)},
        "versions": {
            "here": {name: version(name) for name in ("fastapi", "uvicorn")},
            **{name: peer_versions(name) for name in PEERS},
        },
        "tried": tried,
        "tunings": tunings,
        "load": {name: _figures([turn.new for turn in of], "new picture") for name, of in taken.items()},
        "repeat": {ENSEMBLE: _figures([turn.repeat for turn in taken[ENSEMBLE]], "repeat picture")},
        "memory": {name: _each([turn.memory for turn in of]) for name, of in taken.items()},
        "max_abs_difference": max(turn.difference for turn in chain(*taken.values())),
    }


def _tuned_raw(
    cores: int, files: Files, settings: PeerSettings, tried: dict[str, dict[str, float]]
) -> tuple[str, Tuning, Tuning]:
    """Find the best tunings of raw ONNX Runtime: a label for both, the one for one client, the one for several."""
    of = {tuning.label(): tuning for tuning in raw_tunings(cores)[: settings.ways]}
    rates = {label: try_raw_tuning(tuning, files, settings) for label, tuning in _shown(RAW, of)}
    one = [label for label, tuning in of.items() if tuning.workers == 1 and tuning.batch == 1]
    alone, saturated = max(one, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    tried[RAW] = rates
    return f"{saturated}; for one client {alone}", of[alone], of[saturated]


def _shown(name: str, ways: Mapping[str, T]) -> Iterable[tuple[str, T]]:
    return progress_bar(ways.items(), f"tuning {name}", unit="way")


def _figures(rounds: Sequence[Mapping[int, Load]], kind: str) -> dict[str, dict[str, Any]]:
    """Compute the figures of each load: values per round, and percentiles over the requests of all rounds."""
    return {_phase(kind, clients): _of_loads([loads[clients] for loads in rounds]) for clients in rounds[0]}


def _phase(kind: str, clients: int) -> str:
    return f"{kind}, {clients} client{'s' * (clients > 1)}"


def _of_loads(loads: Sequence[Load]) -> dict[str, Any]:
    together = list(chain.from_iterable(load.latencies_ms for load in loads))
    return {
        "requests_per_s": [load.per_second for load in loads],
        "p50_ms": [load.percentile_ms(50) for load in loads],
        "p99_ms": [load.percentile_ms(99) for load in loads],
        "requests": len(together),
        "all_p50_ms": percentile(together, 50),
        "all_p99_ms": percentile(together, 99),
    }


def _each(rounds: Sequence[Mapping[str, int]]) -> dict[str, list[int]]:
    return {key: [of[key] for of in rounds] for key in rounds[0]}


def render_peers(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    of, load, repeat = section["settings"], section["load"], section["repeat"][ENSEMBLE]
    phases = list(load[RAW])
    ends = [phases[0], phases[-1]]
    one, many = (phase.partition(", ")[2] for phase in ends)
    repeated = " to ".join(
        f"{number(median(repeat[phase]['requests_per_s']))} ({phase.partition(', ')[2]})"
        for phase in (next(iter(repeat)), next(reversed(repeat)))
    )
    difference = section["max_abs_difference"]
    return [
        "All serve the same model on the same cores, and give the same five tags and scores for the same new pictures"
        f"{f' (within {difference:.0e})' if difference else ''}. Each runs alone with the best tuning that was found, "
        f"in {of['rounds']} rounds of {of['window_s']:g} s for each number of clients. Memory is the proportional set "
        "size of all processes after the load.",
        "",
        *table(
            ["", f"p50, ms, {one}", f"requests per second, {many}", "ensemble / it", f"p99, ms, {many}", "memory, MB"],
            [_line(section, name, *ends) for name in load],
        ),
        "",
        f"`{RAW}` computes batches of the fastest size, without server or queue; its latency is that of one batch. In "
        "`three calls`, the client calls the ensemble's three models in turn. LitServe and BentoML run the same ONNX "
        "files, FastAPI PyTorch with the same weights. Only the ensemble has a "
        f"cache: it answers {repeated} repeat pictures per second.",
        "",
    ]


def _line(section: Mapping[str, Any], name: str, first: str, last: str) -> list[str]:
    one, many = section["load"][name][first], section["load"][name][last]
    return [
        name,
        number(one["all_p50_ms"]),
        number(median(many["requests_per_s"])),
        cell(ratios(many["requests_per_s"], section["load"][ENSEMBLE][last]["requests_per_s"])),
        number(many["all_p99_ms"]),
        f"{median(section['memory'][name]['pss']) / 1e6:,.0f}",
    ]
