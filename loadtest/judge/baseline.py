"""Comparison of repeated runs with saved ones: what changed, by how much, and whether it exceeds the noise.

The sample is runs, not requests: requests of one run are not independent. Intervals are 95 %, Student's t for a mean
and Welch's for a change. They are computed on logarithms, so a mean is a geometric one and no latency or throughput
goes below 0. Error shares may be 0: they are compared as they are, in percentage points.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from loadtest.errors import LoadtestError
from loadtest.judge.slo import requests_needed
from loadtest.judge.verdict import grouped, measure, metric_name
from loadtest.records import Run
from measure.files import write_text

FORMAT = "altreco-loadtest-baseline-1"
MORE_IS_BETTER = "requests_per_s"
SAME = ("profile", "workload")
"""Settings that must be equal: otherwise the loads differ, not the servers."""

T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Quantiles of Student's t at 0.975 for 1, 2, ... degrees of freedom. More use the last, which is conservative."""

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Values of several runs by group and metric, such as `new.p99_ms`; `settings` has SAME and `environment`."""

    settings: Mapping[str, Any]
    started: Sequence[str]
    values: Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Change:
    """Change of one metric in %, or for error shares in percentage points. Intervals are None for a single run."""

    metric: str
    before: float
    before_interval: Interval | None
    now: float
    now_interval: Interval | None
    change: float
    interval: Interval | None
    unit: str

    @property
    def name(self) -> str:
        """Name such as `p99 of new pictures`."""
        group, _, metric = self.metric.partition(".")
        return metric_name(metric, group)

    @property
    def statement(self) -> str:
        """Result in words."""
        size = f"{self._word} by {abs(self.change):.1f} {self.unit}"
        if self.interval is None:
            return f"{size} in a single run: repeat it to tell a difference from noise"
        low, high = self.interval
        if self.verdict == "same":
            return f"no difference shown (95 % interval of the change: {low:+.1f} to {high:+.1f} {self.unit})"
        ends = sorted((abs(low), abs(high)))
        return f"{size} (95 % interval {ends[0]:.1f} to {ends[1]:.1f})"

    @property
    def verdict(self) -> str:
        """`worse`, `better`, or `same` if no difference is shown."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "same"
        return self._word

    @property
    def _word(self) -> str:
        return "worse" if (self.change > 0) != self.metric.endswith(MORE_IS_BETTER) else "better"


@dataclass(frozen=True)
class Comparison:
    """Changes of all shared metrics, and `differences` of the environments, which may also explain a change."""

    changes: tuple[Change, ...]
    differences: tuple[str, ...]
    runs: tuple[int, int]
    """Number of runs before and now."""

    @property
    def worse(self) -> tuple[Change, ...]:
        """Metrics that got worse by more than noise."""
        return tuple(change for change in self.changes if change.verdict == "worse")


def save_baseline(path: Path, runs: Sequence[Run]) -> None:
    """Write the metrics of repeated runs; raises LoadtestError if their profiles or workloads differ."""
    write_text(path, json.dumps({"format": FORMAT, **asdict(_baseline(runs))}, indent=1) + "\n")


def load_baseline(path: Path) -> Baseline:
    """Read what `save_baseline` wrote; raises LoadtestError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return Baseline(**values)
    except OSError as error:
        raise LoadtestError(f"cannot read the baseline {path}: {error.strerror}; save one first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadtestError(f"{path} is not a baseline of this load test ({error}): save it again") from error


def compare(baseline: Baseline, runs: Sequence[Run]) -> Comparison:
    """Compare every metric that both have; raises LoadtestError if the loads differ."""
    now = _baseline(runs)
    for key in SAME:
        if now.settings[key] != baseline.settings[key]:
            differing = _differing(baseline.settings[key], now.settings[key])
            raise LoadtestError(
                f"the baseline was measured with another {key} ({differing}): compare with one of the same "
                "load, or save a new one"
            )
    changes = [
        _change(metric, values, now.values[metric])
        for metric, values in baseline.values.items()
        if metric in now.values
    ]
    before, after = baseline.settings["environment"], now.settings["environment"]
    differences = [_differing(before, after)] if before != after else []
    return Comparison(tuple(changes), tuple(differences), (len(baseline.started), len(runs)))


def interval(values: Sequence[float]) -> Interval | None:
    """Compute the 95 % interval of the mean, by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    half = _t(len(values) - 1) * math.sqrt(variance(values) / len(values))
    return fmean(values) - half, fmean(values) + half


def _baseline(runs: Sequence[Run]) -> Baseline:
    if not runs:
        raise LoadtestError("no runs: give at least one, or several for an interval")
    first = runs[0].settings.plain()
    for run in runs[1:]:
        for key in SAME:
            if run.settings.plain()[key] != first[key]:
                raise LoadtestError(
                    f"{run.folder} and {runs[0].folder} differ in their {key}: give repeats of one load"
                )
    values = [_values(run) for run in runs]
    shared = [metric for metric in values[0] if all(metric in of for of in values)]
    return Baseline(
        settings={key: first[key] for key in (*SAME, "environment")},
        started=[run.settings.started for run in runs],
        values={metric: [of[metric] for of in values] for metric in shared},
    )


def _values(run: Run) -> dict[str, float]:
    """Compute values by `GROUP.METRIC`, without groups that got no answer and percentiles of too few requests."""
    answered = {group: records.where(records.error < 0) for group, records in grouped(run.records).items()}
    if not len(answered["all"]):
        raise LoadtestError(f"{run.folder}: no request was answered, so there is nothing to compare")
    return {
        f"{group}.{metric}": value
        for group, records in grouped(run.records).items()
        for metric, value in measure(records, run.settings.duration_s).items()
        if len(answered[group]) >= max(1, requests_needed(metric, 0))
    }


def _change(metric: str, before: Sequence[float], now: Sequence[float]) -> Change:
    logarithmic = all(value > 0 for value in (*before, *now)) and not metric.endswith("error_share")
    most = 1.0 if metric.endswith("error_share") else math.inf
    one, other = ([math.log(value) if logarithmic else value for value in values] for values in (before, now))
    difference, ends = _welch(one, other)

    def percent(change: float) -> float:
        return 100 * (math.expm1(change) if logarithmic else change)

    def back(value: float) -> float:
        return math.exp(value) if logarithmic else min(max(value, 0.0), most)

    def scaled_back(span: Interval | None) -> Interval | None:
        return span and (back(span[0]), back(span[1]))

    return Change(
        metric=metric,
        before=back(fmean(one)),
        before_interval=scaled_back(interval(one)),
        now=back(fmean(other)),
        now_interval=scaled_back(interval(other)),
        change=percent(difference),
        interval=ends and (percent(ends[0]), percent(ends[1])),
        unit="%" if logarithmic else "points",
    )


def _welch(before: Sequence[float], now: Sequence[float]) -> tuple[float, Interval | None]:
    """Compute the difference of the means and its interval, with Welch's degrees of freedom rounded down."""
    difference = fmean(now) - fmean(before)
    if min(len(before), len(now)) < 2:
        return difference, None
    parts = [(variance(values) / len(values), len(values) - 1) for values in (before, now)]
    total = sum(part for part, _ in parts)
    if total == 0:  # such as no errors in any run
        return difference, (difference, difference)
    freedom = total**2 / sum(part**2 / degrees for part, degrees in parts)
    half = _t(max(1, math.floor(freedom))) * math.sqrt(total)
    return difference, (difference - half, difference + half)


def _t(degrees: int) -> float:
    return T_QUANTILES[min(degrees, len(T_QUANTILES)) - 1]


def _differing(before: Any, now: Any, name: str = "") -> str:
    """List the differences, such as `cores: 2, now 4`."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return ", ".join(_differing(before.get(key), now.get(key), key) for key in keys)
    return f"{name}{': ' * bool(name)}{before}, now {now}"
