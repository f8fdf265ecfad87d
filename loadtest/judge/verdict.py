"""Verdict on a run: every objective with its limit and measured value, and one exit code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from loadtest.judge.slo import BUSY_S, GROUPS, LATE_MS, PERCENTILES, GeneratorLimits, SLOs, given, requests_needed
from loadtest.judge.workers import worker_faults
from loadtest.records import Records, Run
from measure.callers import percentile
from measure.markdown import number

GENERATOR = "generator"
METRICS = {
    "p50_ms": "p50",
    "p95_ms": "p95",
    "p99_ms": "p99",
    "p99_9_ms": "p99.9",
    "error_share": "share of errors",
    "requests_per_s": "throughput",
    "cpu_share": "CPU use (share of a core)",
    "share_of_limit": "rate (share of its maximum)",
    "late_share": "share of late requests",
}
UNITS = {"requests_per_s": " per second"} | dict.fromkeys(PERCENTILES, " ms")
"""Units of the metrics that are not shares."""


class Outcome(Enum):
    """Result for one objective; only HELD passes."""

    HELD = "held"
    MISSED = "missed"
    TOO_FEW = "not enough requests"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One limit and the measured value, from `requests` requests of the group; judging it takes `needed`."""

    group: str
    metric: str
    limit: float
    measured: float | None
    requests: int
    needed: int
    outcome: Outcome

    @property
    def ok(self) -> bool:
        """Whether it was shown to hold."""
        return self.outcome is Outcome.HELD

    @property
    def name(self) -> str:
        """Name such as `p99 of new pictures`."""
        return metric_name(self.metric, self.group)

    @property
    def bound(self) -> str:
        """Limit such as `at most 250 ms`."""
        return f"{'at least' if self.metric == 'requests_per_s' else 'at most'} {in_units(self.metric, self.limit)}"

    @property
    def sentence(self) -> str:
        """Measured value and limit, or why there is no result."""
        if self.outcome is Outcome.NOT_MEASURED:
            return f"{self.name} was not measured; the limit is {self.bound}"
        if self.outcome is Outcome.TOO_FEW:
            answered = "answered " if self.metric in PERCENTILES else ""
            return f"{self.name} needs at least {self.needed:,} {answered}requests, but there were {self.requests:,}"
        assert self.measured is not None
        return f"{self.name} is {in_units(self.metric, self.measured)}, expected {self.bound}"


@dataclass(frozen=True)
class Verdict:
    """All objectives of one run."""

    slos: SLOs
    objectives: tuple[Objective, ...]
    ended_early: str | None = None
    """Why the run ended early, in which case it does not pass; None if it did not."""
    worker_faults: tuple[str, ...] = ()
    """What went wrong with workers on other machines, which makes the run invalid."""

    @property
    def ok(self) -> bool:
        """Whether every objective was shown to hold over the whole run."""
        held = all(objective.ok for objective in self.objectives)
        return held and self.ended_early is None and not self.worker_faults

    @property
    def valid(self) -> bool:
        """Whether the generator kept to its limits; otherwise the run says nothing about the server."""
        kept = all(objective.ok for objective in self.objectives if objective.group == GENERATOR)
        return kept and not self.worker_faults

    @property
    def exit_code(self) -> int:
        """0 if every objective was shown to hold, otherwise 1."""
        return 0 if self.ok else 1

    @property
    def word(self) -> str:
        """PASSED, FAILED, NOT VALID (overloaded generator) or NOT SHOWN (too few requests, or ended early)."""
        if self.ok:
            return "PASSED"
        if not self.valid:
            return "NOT VALID"
        missed = any(objective.outcome is Outcome.MISSED for objective in self.objectives)
        return "FAILED" if missed else "NOT SHOWN"

    @property
    def reason(self) -> str:
        """Reasons for the verdict, those about the generator first."""
        if self.ok:
            return f"all {len(self.objectives)} objectives held"
        failed = [objective for objective in self.objectives if not objective.ok]
        failed.sort(key=lambda objective: (objective.group != GENERATOR, objective.outcome is not Outcome.MISSED))
        ended = [] if self.ended_early is None else [f"the run ended early: {self.ended_early}"]
        return "; ".join([*ended, *self.worker_faults, *(objective.sentence for objective in failed)])


def check(run: Run, slos: SLOs) -> Verdict:
    """Check every objective. Latencies are those of answered requests; failed ones count as errors."""
    objectives = list(_generator(run, slos.generator))
    for group, records in grouped(run.records).items():
        limits = given(getattr(slos, group))
        measured = measure(records, run.settings.duration_s)
        answered = int(np.count_nonzero(records.error < 0))
        objectives += [
            _objective(group, metric, limit, measured.get(metric), answered if metric in PERCENTILES else len(records))
            for metric, limit in limits.items()
        ]
    faults = worker_faults(run.settings, slos.generator)
    return Verdict(slos, tuple(objectives), run.settings.ended_early, faults)


def grouped(records: Records) -> dict[str, Records]:
    """Select the requests of each group in GROUPS."""
    masks = {
        "all": np.ones(len(records), dtype=bool),
        "cold": records.cold,
        "repeat": records.repeat,
        "new": ~records.repeat,
    }
    return {group: records.where(masks[group]) for group in GROUPS}


def measure(records: Records, duration_s: float) -> dict[str, float]:
    """Measure percentiles of the answered requests (ms), the error share, and the answers per second within the run."""
    values: dict[str, float] = {}
    answered = records.where(records.error < 0)
    if len(answered):
        latencies_ms = answered.latency_ms()
        values |= {key: percentile(latencies_ms, percent) for key, percent in PERCENTILES.items()}
    if len(records):
        values["error_share"] = 1 - len(answered) / len(records)
    # Answers of an overloaded server after the end of the run are not throughput.
    values["requests_per_s"] = int(np.count_nonzero(answered.ended_s <= duration_s)) / duration_s
    return values


def busiest(cpu_share: Sequence[Sequence[float]]) -> float | None:
    """Compute the highest share of a core over BUSY_S seconds; `cpu_share` holds pairs of a time and a share."""
    shares = np.array([share for _, share in cpu_share])
    window = min(BUSY_S, len(shares))
    return float(np.convolve(shares, np.ones(window) / window, mode="valid").max()) if window else None


def to_json(verdict: Verdict) -> dict[str, Any]:
    """Convert to plain values for a pipeline."""
    return {
        "slos": verdict.slos.name,
        "ok": verdict.ok,
        "verdict": verdict.word,
        "reason": verdict.reason,
        "ended_early": verdict.ended_early,
        "worker_faults": list(verdict.worker_faults),
        "objectives": [
            {
                "group": objective.group,
                "metric": objective.metric,
                "limit": objective.limit,
                "measured": objective.measured,
                "requests": objective.requests,
                "requests_needed": objective.needed,
                "outcome": objective.outcome.value,
                "ok": objective.ok,
            }
            for objective in verdict.objectives
        ],
    }


def metric_name(metric: str, group: str) -> str:
    """Return a name such as `p99 of new pictures`."""
    return f"{METRICS[metric]} of {'the load generator' if group == GENERATOR else GROUPS[group]}"


def in_units(metric: str, value: float) -> str:
    """Format a value with its unit, such as `250 ms`."""
    return f"{number(value)}{UNITS.get(metric, '')}"


def late_share(run: Run) -> float:
    """Compute the share of requests sent more than LATE_MS late because the generator was too busy.

    It is 0 if requests waited because too many were in flight.
    """
    if run.settings.generator.bound_reached or not len(run.records):
        return 0.0
    return float((run.records.late_ms() > LATE_MS).mean())


def _objective(group: str, metric: str, limit: float, measured: float | None, requests: int) -> Objective:
    needed = requests_needed(metric, limit)
    held = measured is not None and (measured >= limit if metric == "requests_per_s" else measured <= limit)
    if requests < needed and (held or measured is None or metric in PERCENTILES):
        outcome = Outcome.TOO_FEW
    elif measured is None:
        outcome = Outcome.NOT_MEASURED  # enough requests, but none was answered
    else:
        outcome = Outcome.HELD if held else Outcome.MISSED
    return Objective(
        group=group,
        metric=metric,
        limit=limit,
        measured=measured,
        requests=requests,
        needed=needed,
        outcome=outcome,
    )


def _generator(run: Run, limits: GeneratorLimits) -> Iterator[Objective]:
    generator = run.settings.generator
    values = {"cpu_share": busiest(generator.cpu_share), "late_share": late_share(run)}
    if generator.limit_requests_per_s is not None:
        values["share_of_limit"] = len(run.records) / run.settings.duration_s / generator.limit_requests_per_s
    for metric, measured in values.items():
        yield _objective(GENERATOR, metric, getattr(limits, metric), measured, len(run.records))
