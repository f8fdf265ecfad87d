"""fp32 against int8: file sizes, loading time and load. For fp16, only the file size."""

import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from altreco_client import contract

from benchmark.loads import SERVER, phases, served, take_turns
from benchmark.sections.rows import layer_list, load_lines
from benchmark.settings import Settings
from deploy.local import on_free_ports, serve
from export.config import vocabulary_size
from export.full_size import VERSION, folded
from export.graph.precision import apply_precision
from export.manifest import PRECISIONS
from export.repository import model_files
from export.served import DEADLINE_S, connected
from measure.markdown import compared, number, table
from measure.turns import by_turns

SERVED = ("fp32", "int8")
"""Served precisions. fp16 is not measured, because a CPU computes it in fp32."""


def measure_precision(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Measure a model with random weights, so any calibration pictures do. Raises ExportError, ServerError."""
    tags = vocabulary_size(configs)
    repositories: dict[str, Path] = {
        precision: shutil.copytree(folded(settings.preset, configs, folder), folder / precision)
        for precision in PRECISIONS
    }
    files = {precision: model_files(repositories[precision], VERSION) for precision in PRECISIONS}
    # Patches of noise: to a convolution, noise of single pixels all looks the same.
    small = np.random.default_rng(0).integers(0, 256, (settings.calibration_pictures, 14, 14, 3), np.uint8)
    pictures = small.repeat(16, 1).repeat(16, 2)
    kept = {precision: apply_precision(files[precision], precision, lambda: pictures) for precision in PRECISIONS}
    contestants = {precision: repositories[precision] for precision in SERVED}
    loading = _loading(contestants, settings)
    with served(contestants, settings.cache_size_bytes) as servers:
        load = take_turns(servers, phases("new picture", 0.0, settings), tags, settings, "precision")
    return {
        "bytes": {
            precision: {name: file.stat().st_size for name, file in files[precision].items()}
            for precision in PRECISIONS
        },
        "kept_in_float": kept["int8"],
        "loading_s": loading,
        "load": load,
    }


def _loading(repositories: Mapping[str, Path], settings: Settings) -> dict[str, list[float]]:
    """Measure the seconds until a running server has loaded and warmed up the ensemble and its models, per round."""

    def load(repository: Path) -> float:
        explicit = on_free_ports(repository, model_control="explicit", **SERVER)
        with serve(explicit) as server, connected(server.grpc_url) as client:
            started = time.perf_counter()
            client.load_model(contract.TAG_RECOMMENDER.name, client_timeout=DEADLINE_S)
            return time.perf_counter() - started

    contestants = {name: partial(load, repository) for name, repository in repositories.items()}
    return by_turns(contestants, settings.rounds, title="loading")


def render_precision(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    mb = {name: sum(sizes.values()) / 1e6 for name, sizes in section["bytes"].items()}
    lines = [
        *load_lines(section["load"], "fp32", "int8"),
        compared("loading and warming, s", section["loading_s"], "fp32", "int8"),
        ["files, MB", f"{mb['fp32']:.1f}", f"{mb['int8']:.1f}", number(mb["int8"] / mb["fp32"])],
    ]
    return [
        *table(["", "fp32", "int8", "int8 / fp32"], lines),
        "",
        f"fp32 is the default. int8 keeps {layer_list(section['kept_in_float'])} in float. The speed of fp16 (files "
        f"of {mb['fp16']:.1f} MB) was not measured, because a CPU computes it in fp32.",
        "",
    ]
