"""Markdown tables and the figures in them: one format for numbers, medians with their ranges, ratios by round."""

from collections.abc import Mapping, Sequence
from statistics import median

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads and lines."""


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; what would end a cell is escaped."""
    return [_line(heads), "|---" * len(heads) + "|", *map(_line, lines)]


def number(value: float) -> str:
    """Three significant digits, or all that stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(values: Sequence[float]) -> str:
    """Median and range of a value a round."""
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})"


def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """`other / one`, round by round: what happened to both in a round cancels out."""
    return [b / a for a, b in zip(one, other, strict=True)]


def compared(label: str, values: Mapping[str, Sequence[float]], one: str, other: str) -> list[str]:
    """A line of a table: two contestants, and their ratio round by round."""
    return [label, cell(values[one]), cell(values[other]), cell(ratios(values[one], values[other]))]


def seconds(value: float) -> str:
    """Seconds with their unit."""
    return f"{number(value)} s"


def ms(value: float) -> str:
    """Milliseconds with their unit."""
    return f"{number(value)} ms"


def mib(size_bytes: float) -> str:
    """A size in whole MiB, with the unit."""
    return f"{size_bytes / 1024**2:,.0f} MiB"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(content.replace("|", "\\|").replace("\n", " ") for content in cells) + " |"
