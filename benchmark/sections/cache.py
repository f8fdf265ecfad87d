"""The cache of visual encodings: time saved by repeat pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.loads import phases, served, take_turns
from benchmark.settings import Settings
from export.config import vocabulary_size
from export.full_size import folded
from measure.markdown import cell, table


def measure_cache(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Measure loads by share of repeat pictures. Raises ExportError, ServerError."""
    tags = vocabulary_size(configs)
    repository = folded(settings.preset, configs, folder)
    loads = [
        phase for repeated in settings.hit_rates for phase in phases(f"{repeated:.0%} repeated", repeated, settings)
    ]
    with served({"folded": repository}, settings.cache_size_bytes) as servers:
        load = take_turns(servers, loads, tags, settings, "cache")
    return {"load": load}


def render_cache(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    load = section["load"]["folded"]
    one = [name for name in load if name.endswith(", 1 client")]
    several = [name for name in load if name not in one]
    return [
        *table(
            ["load", "p50, ms, 1 client", f"requests per second, {section['conditions']['clients']} clients"],
            [
                [alone.partition(",")[0], cell(load[alone]["p50_ms"]), cell(load[together]["requests_per_s"])]
                for alone, together in zip(one, several, strict=True)
            ],
        ),
        "",
    ]
