"""Markdown tables of figures: medians and ranges over rounds."""

from collections.abc import Mapping, Sequence
from statistics import median


def header(first: str, names: Sequence[str]) -> list[str]:
    """The two lines that begin a table."""
    return [f"| {first} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]


def row(label: str, values: Mapping[str, Sequence[float]], one: str, other: str) -> str:
    """Two contestants, with the ratio round by round: what happened to both cancels out."""
    return f"| {label} | {cell(values[one])} | {cell(values[other])} | {cell(ratios(values[one], values[other]))} |"


def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """`other / one`, round by round."""
    return [b / a for a, b in zip(one, other, strict=True)]


def cell(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
