"""The folded split against the unfolded one."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from altreco_client import contract

from benchmark.loads import ask_all, held_pictures, phases, served, take_turns
from benchmark.sections.rows import load_lines, ratio_line
from benchmark.settings import Settings
from benchmark.unfolded import unfolded
from deploy.local import Server
from export.config import vocabulary_size
from export.full_size import folded
from export.served import DEADLINE_S, connected
from measure.markdown import table
from measure.requests import Request, new_requests


def measure_split(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Measure bytes, cache, load and answers of both splits. Raises ExportError, ServerError."""
    tags = vocabulary_size(configs)
    repositories = {
        "folded": folded(settings.preset, configs, folder),
        "unfolded": unfolded(settings.preset, configs, folder),
    }
    loads = [*phases("new picture", 0.0, settings), *phases("repeat picture", 1.0, settings)]
    requests = list(islice(new_requests(tags), settings.compared_pictures))
    with served(repositories, settings.cache_size_bytes) as servers:
        passed = {name: _encoding_bytes(server, requests[0]) for name, server in servers.items()}
        difference = _difference(servers["folded"], servers["unfolded"], requests)
        load = take_turns(servers, loads, tags, settings, "split")
    return {
        "bytes_between_models": passed,
        "max_abs_difference": difference,
        "cache": {name: _cache(repositories[name], tags, settings, passed[name]) for name in repositories},
        "load": load,
    }


def _encoding_bytes(server: Server, request: Request) -> int:
    """Measure the size of the visual encoder's answer to one picture."""
    image = [entry for entry in request if entry.name() == contract.IMAGE.name]
    with connected(server.grpc_url) as client:
        answer: triton.InferResult = client.infer(contract.VISUAL_ENCODER.name, image, client_timeout=DEADLINE_S)
        return len(answer.get_response().raw_output_contents[0])


def _difference(one: Server, other: Server, requests: list[Request]) -> float:
    with connected(one.grpc_url) as first, connected(other.grpc_url) as second:
        return float(np.abs(np.array(ask_all(first, requests)) - np.array(ask_all(second, requests))).max())


def _cache(repository: Path, tags: int, settings: Settings, encoding_bytes: int) -> dict[str, float]:
    size = settings.capacity_encodings * encoding_bytes
    held = held_pictures(repository, tags, cache_size_bytes=size, encoding_bytes=encoding_bytes)
    return {"size_bytes": size, "pictures": held, "bytes_a_picture": size / held}


def render_split(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    passed, cache = section["bytes_between_models"], section["cache"]
    a_picture = {name: of["bytes_a_picture"] for name, of in cache.items()}
    lines = [
        ratio_line("bytes per picture between the models", passed),
        ratio_line("bytes per picture in the cache", a_picture),
        *load_lines(section["load"], "folded", "unfolded"),
    ]
    return [
        "The folded visual encoder includes its part of the classifier's first convolution: it returns fewer channels.",
        "",
        *table(["", "folded", "unfolded", "unfolded / folded"], lines),
        "",
        f"No probability differs by more than {section['max_abs_difference']:.1e}.",
        "",
    ]
