"""Markdown shared by several sections."""

from collections.abc import Mapping, Sequence
from typing import Any

from measure.markdown import compared

METRICS = {"p50_ms": "p50, ms", "requests_per_s": "requests per second"}


def conditions_text(section: Mapping[str, Any]) -> str:
    """Describe how a section with closed loads was measured."""
    of = section["conditions"]
    return (
        f"preset `{of['preset']}` with random weights, a cache of {of['cache_size_bytes'] / 1024**2:g} MiB, "
        f"{of['rounds']} rounds of {of['window_s']:g} s for each contestant and load"
    )


def load_lines(load: Mapping[str, Mapping[str, Any]], one: str, other: str) -> list[list[str]]:
    """Format the rows of two contestants: latency with one client, throughput with several."""
    lines = []
    for phase in load[one]:
        metric = "p50_ms" if phase.endswith(", 1 client") else "requests_per_s"
        values = {name: load[name][phase][metric] for name in (one, other)}
        lines.append(compared(f"{phase}: {METRICS[metric]}", values, one, other))
    return lines


def ratio_line(label: str, values: Mapping[str, float]) -> list[str]:
    """Format a row for a figure that is the same in every round."""
    one, other = values.values()
    return [label, f"{one:,.0f}", f"{other:,.0f}", f"{other / one:.1f}"]


def layer_list(layers: Sequence[str]) -> str:
    """Format the names of layers as code, separated by commas."""
    return ", ".join(f"`{layer}`" for layer in layers) or "no layer"
