"""An experiment: raw ONNX Runtime beside a process as busy as the ensemble's clients and the rest of its server."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.peers.clients import ensemble
from benchmark.peers.contestants import BATCH, ENSEMBLE, RAW, Files, committed, make_files, raw
from benchmark.peers.race import loaded
from benchmark.peers.servers import ROOT
from benchmark.peers.settings import PeerSettings
from benchmark.peers.tuning import Tuning
from deploy.local.process import piped
from measure.markdown import cell, number, ratios
from measure.server import cpu_seconds
from measure.turns import by_turns

BESIDE = f"{RAW} beside a busy process"


def measure_overhead(
    settings: PeerSettings, preset: str, cache_size_bytes: int, configs: Path, folder: Path
) -> dict[str, Any]:
    """Measure the CPU time that the ensemble needs outside its visual encoder, then all three in turn.

    Raises ExportError, ServerError.
    """
    files = make_files(preset, configs, settings.environments, folder, cache_size_bytes, peers=())
    of_ensemble = _serve(files, settings)
    busy = of_ensemble["clients_cores"] + of_ensemble["server_cores"]
    turns = {
        ENSEMBLE: partial(_serve, files, settings),
        RAW: partial(_compute, files, settings),
        BESIDE: partial(_compute, files, settings, busy),
    }
    taken = by_turns(turns, settings.rounds, title="overhead")
    return {
        "settings": {"rounds": settings.rounds, "window_s": settings.window_s, "clients": settings.clients[-1]},
        "busy_cores": busy,
        "turns": {name: {key: [turn[key] for turn in of] for key in of[0]} for name, of in taken.items()},
    }


def _serve(files: Files, settings: PeerSettings) -> dict[str, float]:
    """Load the ensemble; `server_cores` are those of all its processes but the busiest, the visual encoder's."""
    with committed(files) as server:
        before, started = cpu_seconds(server.pid), time.monotonic()
        load = loaded(ensemble, server.address, settings.clients[-1], files.tags, settings, repeat=False)
        elapsed_s = time.monotonic() - started
        used = [total - before.get(process, 0.0) for process, total in cpu_seconds(server.pid).items()]
    return {
        "requests_per_s": load.per_second,
        "clients_cores": load.cpu_s / load.seconds,
        "server_cores": (sum(used) - max(used)) / elapsed_s,
    }


def _compute(files: Files, settings: PeerSettings, busy: float | None = None) -> dict[str, float]:
    """Call raw ONNX Runtime in its best tuning, beside a process that uses `busy` cores."""
    tuning = Tuning(workers=1, threads=len(os.sched_getaffinity(0)), batch=BATCH, spin=True)
    with ExitStack() as stack:
        if busy is not None:
            stack.enter_context(piped([sys.executable, "-m", "benchmark.peers.busy", str(busy)], cwd=ROOT))
        process = stack.enter_context(raw(files))
        process.load(tuning, settings.warmup_s)
        return {"requests_per_s": process.load(tuning, settings.window_s).per_second}


def render_overhead(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    of, turns = section["settings"], section["turns"]
    rates = {name: turn["requests_per_s"] for name, turn in turns.items()}
    clients, server = (median(turns[ENSEMBLE][key]) for key in ("clients_cores", "server_cores"))
    return [
        f"With {of['clients']} clients, in {of['rounds']} rounds of {of['window_s']:g} s, the clients use "
        f"{number(clients)} cores, and the server {number(server)} outside the visual encoder. So raw ONNX Runtime "
        f"also runs beside a process that uses {number(section['busy_cores'])}, their sum in a trial before.",
        "",
        f"Requests per second: {', '.join(f'{number(median(rate))} `{name}`' for name, rate in rates.items())}. The "
        f"ensemble reaches {cell(ratios(rates[BESIDE], rates[ENSEMBLE]))} of the last. The loss exceeds the process's "
        "share of the cores, because both threads of the encoder wait for the interrupted one.",
        "",
    ]
