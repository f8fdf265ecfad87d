"""The cache of visual encodings: time saved by repeat pictures, and number of pictures held."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from altreco_client import contract

from benchmark.loads import held_pictures, phases, served, take_turns
from benchmark.sections.rows import conditions_lines, size_text
from benchmark.settings import Settings
from export.config import vocabulary_size
from export.full_size import folded
from measure.markdown import cell, table

ENCODING_BYTES = 4 * math.prod(contract.ENCODING_SHAPE)


def measure_cache(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Measure load with several shares of repeat pictures, and capacities. Raises ExportError, ServerError."""
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


def render_cache(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    load = section["load"]["folded"]
    one = [name for name in load if name.endswith(", 1 client")]
    several = [name for name in load if name not in one]
    clients = section["conditions"]["clients"]
    return [
        *conditions_lines(section),
        *table(
            [
                "load",
                "hit rate",
                "p50, ms, 1 client",
                "p99, ms, 1 client",
                f"requests a second, {clients} clients",
            ],
            [
                [
                    alone.partition(",")[0],
                    *map(cell, (load[together]["hit_rate"], load[alone]["p50_ms"], load[alone]["p99_ms"])),
                    cell(load[together]["requests_per_s"]),
                ]
                for alone, together in zip(one, several, strict=True)
            ],
        ),
        "",
        "The hit rate is from Triton's statistics of the visual encoder: `cache_hit` over hits and misses.",
        "",
        *table(
            ["size of the cache (`--cache-size`)", "pictures held", "bytes a picture"],
            [
                [size_text(int(size)), f"{pictures:,}", f"{int(size) / pictures:,.0f}"]
                for size, pictures in section["pictures_by_size"].items()
            ],
        ),
        "",
    ]
