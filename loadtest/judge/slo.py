"""Service level objectives, read from a TOML file and checked."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from loadtest.errors import LoadtestError
from loadtest.parse import parse, read_toml

PERCENTILES = {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "p99_9_ms": 99.9}
"""Percentile of each key."""

GROUPS = {
    "all": "all requests",
    "cold": "users without history",
    "repeat": "repeat pictures",
    "new": "new pictures",
}
"""Requests that each table of an SLO file applies to."""

BEYOND = 5
"""Requests that must lie beyond a percentile: a p50 needs 10 requests, a p99 500, a p99.9 5,000."""

BUSY_S = 10
"""Seconds over which the CPU use of a generator is averaged; shorter peaks are allowed."""

LATE_MS = 100.0
"""A request is late if it was sent more than this after it was due."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits for one group of requests; None means no limit."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    p99_9_ms: float | None = None
    error_share: float | None = None
    """Highest share of failed requests, 0 to 1."""
    requests_per_s: float | None = None
    """Lowest rate of answers."""

    def __post_init__(self) -> None:
        """Raise ValueError for limits that no run could meet or that contradict each other."""
        limits = given(self)
        for key, limit in limits.items():
            if key == "error_share":
                if not 0 <= limit < 1:
                    raise ValueError(f"{key} is {limit:g}, expected a share of 0 or more, below 1")
            elif not 0 < limit < math.inf:
                raise ValueError(f"{key} is {limit:g}, expected a number above 0")
        ordered = [(key, limits[key]) for key in PERCENTILES if key in limits]
        for (lower, limit), (higher, other) in itertools.pairwise(ordered):
            if other < limit:
                raise ValueError(f"{higher} is {other:g}, expected {lower} of {limit:g} or more")


@dataclass(frozen=True, kw_only=True)
class GeneratorLimits:
    """Limits of the load generator. Beyond them it is the bottleneck itself, and the run is not valid."""

    cpu_share: float = 0.9
    """Share of one core used by the busiest process, averaged over any BUSY_S seconds."""
    share_of_limit: float = 0.9
    """Rate as a share of the highest rate that the generator can send, if that was measured."""
    late_share: float = 0.5
    """Share of requests sent more than LATE_MS late."""
    machine_share: float = 0.9
    """Share of the cores of a worker's machine, averaged like `cpu_share`. This and the next are for other machines."""
    began_late_ms: float = 50.0
    """Time by which a worker begins after the others."""
    pause_ms: float = 1000.0
    """Time for which a worker is stopped or hangs."""
    round_trip_ms: float = 20.0
    """Time of a message to a worker and back, half of which bounds the error of its clock."""

    def __post_init__(self) -> None:
        """Raise ValueError for a share outside 0 to 1, or a time that is not above 0."""
        for key, limit in given(self).items():
            if key.endswith("_share") or key == "share_of_limit":
                if not 0 < limit <= 1:
                    raise ValueError(f"{key} is {limit:g}, expected a share above 0, at most 1")
            elif not 0 < limit < math.inf:
                raise ValueError(f"{key} is {limit:g}, expected milliseconds above 0")


@dataclass(frozen=True, kw_only=True)
class SLOs:
    """Objectives by group of requests and for the generator; `name` defaults to the name of the file."""

    name: str = ""
    all: Limits = field(default_factory=Limits)
    cold: Limits = field(default_factory=Limits)
    repeat: Limits = field(default_factory=Limits)
    new: Limits = field(default_factory=Limits)
    generator: GeneratorLimits = field(default_factory=GeneratorLimits)

    def limits(self) -> Mapping[str, Limits]:
        """Return the limits of each group, in the order of GROUPS."""
        return {group: getattr(self, group) for group in GROUPS}


def load_slos(path: Path) -> SLOs:
    """Read and check a file of SLOs; raises LoadtestError, naming file, key and the known keys."""
    slos = parse(SLOs, read_toml(path, "SLOs"), file=str(path))
    if not any(given(limits) for limits in slos.limits().values()):
        raise LoadtestError(
            f"{path} limits nothing: give {', '.join(f'[{group}]' for group in GROUPS)} some objectives"
        )
    return slos if slos.name else replace(slos, name=path.stem)


def given(limits: Limits | GeneratorLimits) -> dict[str, float]:
    """Return the limit of each key that has one."""
    values = {key.name: getattr(limits, key.name) for key in fields(limits)}
    return {key: value for key, value in values.items() if value is not None}


def requests_needed(metric: str, limit: float) -> int:
    """Compute the requests needed to judge a metric. An error share needs enough for one of them to fail."""
    if metric in PERCENTILES:
        return math.ceil(round(100 * BEYOND / (100 - PERCENTILES[metric]), 6))
    if metric == "error_share" and limit > 0:
        return math.ceil(round(1 / limit, 6))
    return 1 if metric == "error_share" else 0
