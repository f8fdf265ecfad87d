"""Service level objectives: what a run is held against, read from a TOML file in which nothing unknown may stand."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from loadtest.errors import LoadtestError
from loadtest.parse import parse, read_toml

PERCENTILES = {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "p99_9_ms": 99.9}
"""Key in the file to percentile."""

GROUPS = {
    "all": "all requests",
    "cold": "users without history",
    "repeat": "repeat pictures",
    "new": "new pictures",
}
"""Table in the file to the requests that it limits."""

BEYOND = 5
"""A percentile is judged when so many requests lie beyond it: p50 of 10, p99 of 500, p99.9 of 5,000 requests."""

BUSY_S = 10
"""A generator may be busier than its limit for a moment, but not on average over so many seconds."""


LATE_MS = 100.0
"""A request that leaves so long after its time is late."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one group of requests; None is not limited."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    p99_9_ms: float | None = None
    error_share: float | None = None
    """0 to 1, at most."""
    requests_per_s: float | None = None
    """Answered, at least."""

    def __post_init__(self) -> None:
        """Raises ValueError for what no run could be held against."""
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
    """Beyond them the generator measures itself: its latencies, and with them the run, are not valid."""

    cpu_share: float = 0.9
    """Of one core, by the busiest process of the generator, on average over any BUSY_S seconds."""
    share_of_limit: float = 0.9
    """Requests per second against what the generator can send at most, where that was measured."""
    late_share: float = 0.5
    """Requests that left more than LATE_MS late."""

    def __post_init__(self) -> None:
        """Raises ValueError for shares that are none."""
        for key, limit in given(self).items():
            if not 0 < limit <= 1:
                raise ValueError(f"{key} is {limit:g}, expected a share above 0, at most 1")


@dataclass(frozen=True, kw_only=True)
class SLOs:
    """By group of requests, and for the generator; `name` is the file's where it gives none."""

    name: str = ""
    all: Limits = field(default_factory=Limits)
    cold: Limits = field(default_factory=Limits)
    repeat: Limits = field(default_factory=Limits)
    new: Limits = field(default_factory=Limits)
    generator: GeneratorLimits = field(default_factory=GeneratorLimits)

    def limits(self) -> Mapping[str, Limits]:
        """Group to its limits, in the order of GROUPS."""
        return {group: getattr(self, group) for group in GROUPS}


def load_slos(path: Path) -> SLOs:
    """Read and check a file of SLOs; raises LoadtestError, naming file, key and what is known."""
    slos = parse(SLOs, read_toml(path, "SLOs"), file=str(path))
    if not any(given(limits) for limits in slos.limits().values()):
        raise LoadtestError(
            f"{path} limits nothing: give {', '.join(f'[{group}]' for group in GROUPS)} some objectives"
        )
    return slos if slos.name else replace(slos, name=path.stem)


def given(limits: Limits | GeneratorLimits) -> dict[str, float]:
    """Key to limit, without those that are not limited."""
    values = {key.name: getattr(limits, key.name) for key in fields(limits)}
    return {key: value for key, value in values.items() if value is not None}


def requests_needed(metric: str, limit: float) -> int:
    """How many requests a statement about the metric takes; an error share, as many as let one of them fail."""
    if metric in PERCENTILES:
        return math.ceil(round(100 * BEYOND / (100 - PERCENTILES[metric]), 6))
    if metric == "error_share" and limit > 0:
        return math.ceil(round(1 / limit, 6))
    return 1 if metric == "error_share" else 0
