"""The memory of a server with a release, and with a candidate beside it."""

import shutil
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from altreco_client import PreparedImage, TagRecommender, contract

from benchmark.settings import Settings
from deploy.local import Server, on_free_ports, serve
from export.canary import load_candidate
from export.full_size import VERSION, folded
from export.loading import load_versions
from export.served import connected
from measure.callers import Caller, closed_load
from measure.markdown import cell, mib, table
from measure.requests import new_pictures
from measure.server import footprint

DEADLINE_S = 60.0
PICTURES = 32
"""Requests of each caller before a footprint, so that the arenas have their size."""


def measure_canary(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Measure the memory, bytes, of one server a round before and after. Raises ExportError, ServerError."""
    made, repository = folded(settings.preset, configs, folder), folder / "canary"
    loads = tuple(f"--load-model={model.name}" for model in (*contract.COMPONENTS, contract.TAG_RECOMMENDER))
    memory: dict[str, list[int]] = {"release": [], "both": []}
    for _ in range(settings.rounds):
        shutil.copytree(made, repository)
        flags = {"strict": True, "stop_timeout_s": 0, "cache_size_bytes": settings.cache_size_bytes}
        with serve(on_free_ports(repository, model_control="explicit", extra_args=loads, **flags)) as server:
            memory["release"].append(_after_load(server, settings, share=0))
            for model in contract.COMPONENTS:
                shutil.copytree(repository / model.name / str(VERSION), repository / model.name / str(VERSION + 1))
            with connected(server.grpc_url) as client:
                for model in contract.COMPONENTS:
                    load_versions(client, model.name, {VERSION, VERSION + 1})
                load_candidate(client, repository, VERSION + 1)
            memory["both"].append(_after_load(server, settings, share=1))
        shutil.rmtree(repository)
    weights = sum(path.stat().st_size for path in made.glob("*/*/*.onnx"))
    return {"memory_bytes": memory, "weights_bytes": weights}


def _after_load(server: Server, settings: Settings, *, share: float) -> int:
    """Memory of the server's processes, bytes, after a load on the release (0) or on the candidate (1)."""
    with TagRecommender(server.grpc_url, deadline_s=DEADLINE_S, candidate_share=share) as client:

        def ask(image: PreparedImage) -> None:
            answer = client.recommend(image, user="anybody")
            if answer.model_version != str(VERSION + share):
                raise RuntimeError(f"release {answer.model_version} answered, expected {VERSION + share}")

        pictures = [map(PreparedImage, islice(new_pictures(seed), PICTURES)) for seed in range(settings.clients)]
        closed_load([Caller(ask, of) for of in pictures])
        return footprint(server.pid).memory_bytes


def render_canary(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    memory = section["memory_bytes"]
    more = [both - one for one, both in zip(memory["release"], memory["both"], strict=True)]
    rows = {"a release": memory["release"], "and a candidate": memory["both"], "more": more}
    return [
        f"Triton's processes, one server a round; the weights of a release are {mib(section['weights_bytes'])}.",
        "",
        *table(["", "memory, MiB"], [[name, cell([size / 1024**2 for size in of])] for name, of in rows.items()]),
        "",
    ]
