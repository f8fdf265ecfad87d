"""The ensemble against raw ONNX Runtime, its three models called separately, and other model servers."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from tqdm import tqdm

from benchmark.peers.contestants import ENSEMBLE, PEERS, RAW, Files, contestants, make_files, raw_tunings
from benchmark.peers.environments import peer_versions
from benchmark.peers.race import Turn, reference, take_raw_turn, take_turn, try_raw_tuning, try_way
from benchmark.peers.settings import PeerSettings
from benchmark.peers.tuning import Tuning
from measure.callers import Load, percentile
from measure.markdown import cell, number, ratios, table
from measure.turns import by_turns

T = TypeVar("T")
STATIC_COLUMNS = ("", "memory, MB: resident", "proportional", "request, bytes", "answer, bytes", "tuning")
LOAD_COLUMNS = ("requests a second", "p50, ms", "p99, ms", "requests", "clients, cores")


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
        name, ways = contestant.name, contestant.ways
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
        "wire": {name: of[-1].wire for name, of in taken.items()},
        "max_abs_difference": max(turn.difference for turn in chain(*taken.values())),
    }


def _tuned_raw(
    cores: int, files: Files, settings: PeerSettings, tried: dict[str, dict[str, float]]
) -> tuple[str, Tuning, Tuning]:
    """The best tunings of raw ONNX Runtime: a label for both, that for one client, and that for several."""
    of = {tuning.label(): tuning for tuning in raw_tunings(cores)}
    rates = {label: try_raw_tuning(tuning, files, settings) for label, tuning in _shown(RAW, of)}
    one = [label for label, tuning in of.items() if tuning.workers == 1 and tuning.batch == 1]
    alone, saturated = max(one, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    tried[RAW] = rates
    return f"{saturated}; for one client {alone}", of[alone], of[saturated]


def _shown(name: str, ways: Mapping[str, T]) -> Iterable[tuple[str, T]]:
    return tqdm(ways.items(), f"tuning {name}", unit="way")


def _figures(rounds: Sequence[Mapping[int, Load]], kind: str) -> dict[str, dict[str, Any]]:
    """Figures by load: values per round, and percentiles over the requests of all rounds."""
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
        "client_cores": [load.cpu_s / load.seconds for load in loads],
    }


def _each(rounds: Sequence[Mapping[str, int]]) -> dict[str, list[int]]:
    return {key: [of[key] for of in rounds] for key in rounds[0]}


def render_peers(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    of, load = section["settings"], section["load"]
    last = list(load[RAW])[-1]
    against = [name for name in load if name not in (RAW, ENSEMBLE)]
    rate = {name: load[name][last]["requests_per_s"] for name in load}
    share = {name: cell(ratios(rate[name], rate[ENSEMBLE])) for name in load}
    return [
        "All contestants serve the same model to the same pictures on the same cores. Each runs alone: it is started, "
        f"warmed up, loaded and ended, in {of['rounds']} rounds, with {of['window_s']:g} s for each closed load of new "
        "pictures. All answer the same five tags; their scores differ by at most "
        f"{section['max_abs_difference']:.0e}. Requests a second are the median over the rounds and the range, p50 and "
        "p99 those of all rounds' requests. The clients use the same cores; the last column is their CPU time.",
        "",
        f"Saturated ({last.partition(', ')[2]}), the ensemble reaches {share[RAW]} of the rate of raw ONNX Runtime, "
        f"{', '.join(f'{share[name]} of {name}' for name in against)}. Ratios are taken round by round.",
        "",
        *chain(*(_load_table(phase, {name: of[phase] for name, of in load.items()}) for phase in load[RAW])),
        f"`{RAW}` has neither server nor queue. In place of one client it processes pictures one by one, in place of "
        "several as many at once as is fastest; its latency is that of a call. `three calls` is the ensemble's server; "
        "the client calls its three models one after the other.",
        "",
        "Repeat pictures, which only the ensemble has a cache for:",
        "",
        *_load_table(f"`{ENSEMBLE}`", section["repeat"][ENSEMBLE]),
        *table(STATIC_COLUMNS, [_static_line(section, name) for name in load]),
        "",
        "Memory is the sum over a server's processes after the saturating load, median over the rounds. Shared pages "
        "count once per process in resident memory, and once in all in proportional memory. Bytes are counted at the "
        "socket. HTTP requests carry the picture as raw bytes; BentoML's carry it as a file in a form.",
        "",
        *table(
            ["tuning, saturated", "requests a second"],
            [
                [f"{name}: {label}", f"{value:.1f}"]
                for name, tried in section["tried"].items()
                for label, value in tried.items()
            ],
        ),
        "",
        "LitServe and BentoML run the same ONNX files on ONNX Runtime, each in its own environment. FastAPI, on "
        f"uvicorn, runs PyTorch with the same weights. {'; '.join(map(_versions, section['versions'].values()))}.",
        "",
    ]


def _versions(of: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in of.items())


def _load_table(first: str, figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [*table([first, *LOAD_COLUMNS], [_load_line(name, of) for name, of in figures.items()]), ""]


def _load_line(name: str, of: Mapping[str, Any]) -> list[str]:
    # Raw ONNX Runtime runs in the measuring process and has no clients.
    cores = "" if name == RAW else f"{median(of['client_cores']):.2f}"
    latency = [number(of["all_p50_ms"]), number(of["all_p99_ms"])]
    return [name, cell(of["requests_per_s"]), *latency, f"{of['requests']:,}", cores]


def _static_line(section: Mapping[str, Any], name: str) -> list[str]:
    memory, wire = section["memory"][name], section["wire"][name]
    sizes = [f"{median(memory[kind]) / 1e6:,.0f}" for kind in ("rss", "pss")]
    weights = [f"{wire[way]:,.0f}" if wire[way] else "" for way in ("request", "answer")]
    return [name, *sizes, *weights, section["tunings"][name]]
