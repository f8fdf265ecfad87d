"""Figures with their units."""

from collections.abc import Mapping

from benchmark.tables import number
from reliability.callers import Calls


def seconds(value: float) -> str:
    """Three digits."""
    return f"{number(value)} s"


def ms(value: float) -> str:
    """Three digits."""
    return f"{number(value)} ms"


def mib(value: float) -> str:
    """Of bytes."""
    return f"{value / 1024**2:,.0f} MiB"


def kinds(errors: Mapping[str, int]) -> str:
    """How many of each."""
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(errors.items())) or "none"


def speed(calls: Calls, over_s: float) -> str:
    """Of the answered calls of a span."""
    p50, p99 = calls.percentile_ms(50), calls.percentile_ms(99)
    return f"{number(len(calls.answered) / over_s)} answers a second, p50 {ms(p50)}, p99 {ms(p99)}"
