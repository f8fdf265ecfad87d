"""The cache of visual encodings: what repeat pictures save, and how many of them it holds."""

import math
from pathlib import Path
from typing import Any

from altreco_client import contract

from benchmark.loads import held_pictures, phases, served, take_turns
from benchmark.settings import Settings
from export.config import vocabulary_size
from export.full_size import folded

ENCODING_BYTES = 4 * math.prod(contract.ENCODING_SHAPE)


def measure_cache(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Load at several shares of repeat pictures, and the pictures that caches hold; raises ExportError, ServerError."""
    tags = vocabulary_size(configs)
    repository = folded(settings.preset, configs, folder)
    loads = [
        phase for repeated in settings.hit_rates for phase in phases(f"{repeated:.0%} repeated", repeated, settings)
    ]
    with served({"folded": repository}, settings.cache_size_bytes) as servers:
        load = take_turns(servers, loads, tags, settings, "cache")
    held = {
        str(size): held_pictures(repository, tags, cache_size_bytes=size, encoding_bytes=ENCODING_BYTES)
        for size in settings.capacity_sizes
    }
    return {"load": load, "pictures_by_size": held}
