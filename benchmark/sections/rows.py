"""Lines of Markdown that several sections share."""

from collections.abc import Mapping, Sequence
from typing import Any

from measure.markdown import compared

METRICS = {"p50_ms": "p50, ms", "requests_per_s": "requests a second"}


def conditions_lines(section: Mapping[str, Any]) -> list[str]:
    """State how the section's table was measured."""
    of = section["conditions"]
    return [
        f"Preset `{of['preset']}` with random weights, a cache of {size_text(of['cache_size_bytes'])}, {of['rounds']} "
        f"rounds with {of['window_s']:g} s for each contestant and load.",
        "",
    ]


def load_lines(load: Mapping[str, Mapping[str, Any]], one: str, other: str) -> list[list[str]]:
    """Compare two contestants: latency with one client, throughput with several."""
    lines = []
    for phase in load[one]:
        metric = "p50_ms" if phase.endswith(", 1 client") else "requests_per_s"
        values = {name: load[name][phase][metric] for name in (one, other)}
        lines.append(compared(f"{phase}: {METRICS[metric]}", values, one, other))
    return lines


def ratio_line(label: str, values: Mapping[str, float]) -> list[str]:
    """Compare two contestants by a figure that is the same in every round."""
    one, other = values.values()
    return [label, f"{one:,.0f}", f"{other:,.0f}", f"{other / one:.1f}"]


def size_text(size_bytes: int) -> str:
    """A size in MiB, with the unit."""
    return f"{size_bytes / 1024**2:g} MiB"


def layer_list(layers: Sequence[str]) -> str:
    """Names of layers as code, with commas between them."""
    return ", ".join(f"`{layer}`" for layer in layers) or "no layer"
