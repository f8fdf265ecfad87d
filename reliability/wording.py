"""Figures about calls, in words."""

from collections.abc import Mapping
from typing import Any

from measure.callers import Calls
from measure.markdown import ms, number
from reliability.questions import Rights, wrong

Span = tuple[Rights, float]
"""Calls, and the length in seconds of the span in which they started."""


def kinds(errors: Mapping[str, int]) -> str:
    """Format the count of each kind."""
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(errors.items())) or "none"


def speed(calls: Calls[Any], over_s: float) -> str:
    """Format the rate and the latencies of answered calls."""
    p50, p99 = calls.percentile_ms(50), calls.percentile_ms(99)
    return f"{number(len(calls.answered) / over_s)} answers a second, p50 {ms(p50)}, p99 {ms(p99)}"


def good_figures(calls: Rights, before: Span, meanwhile: Span, after: Span) -> dict[str, str]:
    """Format the speed of well-behaved clients before, during and after a fault, and how all their calls ended."""
    return {
        "good calls before": speed(*before),
        f"good calls during it, {meanwhile[1]:.0f} s": speed(*meanwhile),
        "good calls after": speed(*after),
        "good calls in all": f"{len(calls.answered):,} answered, {len(wrong(calls)):,} of them wrong; failed: "
        f"{kinds(calls.errors())}",
    }
