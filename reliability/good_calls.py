"""How those fared who asked on while others misbehaved."""

from reliability.callers import Calls, kept
from reliability.outcome import Check
from reliability.wording import kinds, speed

Span = tuple[Calls, float]
"""Calls, and the seconds in which they began."""


def good_figures(calls: Calls, before: Span, meanwhile: Span, after: Span) -> dict[str, str]:
    """Their speed in three spans, and how all of them ended."""
    return {
        "good calls before": speed(*before),
        f"good calls meanwhile, {meanwhile[1]:.0f} s": speed(*meanwhile),
        "good calls after": speed(*after),
        "good calls in all": f"{len(calls.answered):,} answered, {len(calls.wrong):,} of them wrong; failed: "
        f"{kinds(calls.errors())}",
    }


def good_checks(calls: Calls, deadline_s: float) -> list[Check]:
    """Every one of them was answered, right and in time."""
    return [*kept(calls, deadline_s), Check("no good call failed", not calls.failed)]
