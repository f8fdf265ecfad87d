"""Markdown tables, and one format for their figures: numbers, medians with ranges, ratios per round."""

import html
import re
from collections.abc import Mapping, Sequence
from statistics import median

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Column heads, and rows."""


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Format a table as lines; pipes and line breaks in cells are escaped."""
    return [_line(heads), "|---" * len(heads) + "|", *map(_line, lines)]


def escaped(text: str) -> str:
    """Escape text from outside, whose HTML, links, pictures and code Markdown would else take for ours."""
    return re.sub(r"[\\`\[]", r"\\\g<0>", html.escape(text, quote=False))


def number(value: float) -> str:
    """Format with three significant digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(values: Sequence[float]) -> str:
    """Format the median and the range of one value per round."""
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})"


def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Compute `other / one` per round; what affects both in a round cancels out."""
    return [b / a for a, b in zip(one, other, strict=True)]


def compared(label: str, values: Mapping[str, Sequence[float]], one: str, other: str) -> list[str]:
    """Format a row: the medians of two contestants, and the median and range of their ratio per round."""
    of_one, of_other = values[one], values[other]
    return [label, number(median(of_one)), number(median(of_other)), cell(ratios(of_one, of_other))]


def seconds(value: float) -> str:
    """Format seconds with their unit."""
    return f"{number(value)} s"


def ms(value: float) -> str:
    """Format milliseconds with their unit."""
    return f"{number(value)} ms"


def mib(size_bytes: float) -> str:
    """Format a size in whole MiB, with the unit."""
    return f"{size_bytes / 1024**2:,.0f} MiB"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(content.replace("|", "\\|").replace("\n", " ") for content in cells) + " |"
