"""Search for the highest rate that meets the SLOs: steps up to the first miss, then bisection with repeats."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from loadtest.errors import LoadtestError
from loadtest.judge.slo import PERCENTILES, SLOs, given, requests_needed
from loadtest.judge.verdict import Outcome, check, measure
from loadtest.records import Run
from measure.files import write_text
from measure.markdown import number

FORMAT = "altreco-loadtest-capacity-1"
LOWEST = 64
"""If the first rate fails, rates down to 1/LOWEST of it are tried."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings of a search; rates are requests per second."""

    start_per_s: float = 5
    growth: float = 1.5
    """Factor from step to step, until one fails."""
    most_per_s: float = 5000
    precision: float = 0.05
    """Final gap between the rate that holds and the one that does not, as a share of the first."""
    repeats: int = 3
    """Runs per rate at the border, where noise decides: the majority counts."""

    def __post_init__(self) -> None:
        """Raise LoadtestError for a search that would not end."""
        if not 0 < self.start_per_s <= self.most_per_s < math.inf:
            raise LoadtestError(
                f"--start is {self.start_per_s:g}, expected a rate above 0, at most --most ({self.most_per_s:g})"
            )
        if not 1 < self.growth < math.inf or not 0 < self.precision < 1:
            raise LoadtestError(
                f"--growth is {self.growth:g} and --precision {self.precision:g}, expected above 1, and between 0 and 1"
            )
        if self.repeats < 1 or self.repeats % 2 == 0:
            raise LoadtestError(f"--repeats is {self.repeats}, expected an odd number, which has a majority")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measured run. `valid`: the generator kept to its limits. `reason`: why the run did not hold."""

    rate_per_s: float
    answered_per_s: float
    error_share: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    held: bool
    valid: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Result so far; `finished` is False during the search and if it was interrupted."""

    search: Search
    steps: tuple[Step, ...]
    finished: bool

    @property
    def rate_per_s(self) -> float | None:
        """Highest rate that held, below all that did not; None if no rate held."""
        fails = self.fails_per_s
        held = [rate for rate, votes in self.votes().items() if _majority(votes)]
        return max((rate for rate in held if fails is None or rate < fails), default=None)

    @property
    def fails_per_s(self) -> float | None:
        """Lowest rate that did not hold; None if all held."""
        return min((rate for rate, votes in self.votes().items() if not _majority(votes)), default=None)

    @property
    def generator_bound(self) -> bool:
        """Whether the generator, not the server, was the limit."""
        return any(not step.valid and step.rate_per_s == self.fails_per_s for step in self.steps)

    def votes(self) -> Mapping[float, Sequence[bool]]:
        """Return whether each rate held, run by run."""
        votes: dict[float, list[bool]] = {}
        for step in self.steps:
            votes.setdefault(step.rate_per_s, []).append(step.held)
        return votes

    @property
    def sentence(self) -> str:
        """Result in words, with the number of runs behind it."""
        rate, fails = self.rate_per_s, self.fails_per_s
        if rate is None:
            return "No rate met the SLOs" + (f", down to {number(fails)} per second" if fails else "")
        votes = self.votes()[rate]
        sentence = f"{number(rate)} requests per second met the SLOs in {sum(votes)} of {len(votes)} runs"
        if fails is None:
            sentence += "; no higher rate was tried, so the capacity is at least that"
        else:
            votes = self.votes()[fails]
            sentence += f"; {number(fails)} did not in {votes.count(False)} of {len(votes)}"
        if self.generator_bound:
            sentence += ", where the load generator was at its limit: the server's capacity may be higher"
        return sentence + ("" if self.finished else ". The search was not finished")


def search(measured: Callable[[float], Step], settings: Search, keep: Callable[[Capacity], None]) -> Capacity:
    """Measure rates until the gap is within `precision`; `keep` gets the result so far after every step."""
    steps: list[Step] = []

    def holds(rate: float, *, repeated: bool) -> bool:
        """Return whether the rate holds: in its first run, or by majority if that failed or `repeated` is set."""
        while True:
            steps.append(measured(rate))
            keep(Capacity(search=settings, steps=tuple(steps), finished=False))
            votes = [step.held for step in steps if step.rate_per_s == rate]
            if (votes[0] and not repeated) or decided(votes):
                return _majority(votes)

    def decided(votes: Sequence[bool]) -> bool:
        return max(votes.count(True), votes.count(False)) > settings.repeats // 2

    below: float | None = None
    above: float | None = None
    while True:
        found = Capacity(search=settings, steps=tuple(steps), finished=True)
        below, above = found.rate_per_s, found.fails_per_s
        sure = below is not None and decided(found.votes()[below])
        rate = _next(below, above, sure, settings)
        if rate is None:
            keep(found)
            return found
        holds(rate, repeated=above is not None or rate == below)


def _next(below: float | None, above: float | None, sure: bool, settings: Search) -> float | None:
    """Choose the next rate to measure; None if the search is over."""
    if below is None and above is None:
        return settings.start_per_s
    if below is None:
        assert above is not None
        lower = above / settings.growth
        return lower if lower >= settings.start_per_s / LOWEST else None
    if above is None and below < settings.most_per_s:
        return min(below * settings.growth, settings.most_per_s)
    if above is not None and above > below * (1 + settings.precision):
        return math.sqrt(above * below)
    return None if sure else below


def judged(run: Run, slos: SLOs, rate_per_s: float) -> Step:
    """Judge a run by all objectives but throughput.

    Raises LoadtestError if it had too few requests to judge.
    """
    verdict = check(run, without_throughput(slos))
    outcomes = {objective.outcome for objective in verdict.objectives}
    if Outcome.MISSED not in outcomes and Outcome.TOO_FEW in outcomes:
        raise LoadtestError(f"{run.folder}: {verdict.reason}: give longer --step-seconds or a higher --start")
    values = measure(run.records, run.settings.duration_s)
    return Step(
        rate_per_s=rate_per_s,
        answered_per_s=values["requests_per_s"],
        error_share=values.get("error_share", 0.0),
        p50_ms=values.get("p50_ms"),
        p95_ms=values.get("p95_ms"),
        p99_ms=values.get("p99_ms"),
        held=verdict.ok,
        valid=verdict.valid,
        reason="" if verdict.ok else verdict.reason,
    )


def without_throughput(slos: SLOs) -> SLOs:
    """Remove the throughput limits, which a low rate cannot meet."""
    limits = {group: replace(of, requests_per_s=None) for group, of in slos.limits().items()}
    return SLOs(name=slos.name, generator=slos.generator, **limits)


def step_s(slos: SLOs, rate_per_s: float, precision: float, least_s: float) -> float:
    """Compute the duration of a step, long enough for its percentiles and for an overload to show.

    If the rate exceeds the capacity by the share `precision`, the wait in the queue grows by that share of the elapsed
    time. The step lasts until the wait reaches the longest limit.
    """
    limits = given(slos.all)
    needed = max((requests_needed(metric, limit) for metric, limit in limits.items()), default=1)
    longest_s = max((limit / 1000 for metric, limit in limits.items() if metric in PERCENTILES), default=0)
    return max(least_s, 1.1 * needed / rate_per_s, longest_s / precision)


def save_capacity(path: Path, capacity: Capacity) -> None:
    """Write all steps and the result so far as JSON."""
    result = {"rate_per_s": capacity.rate_per_s, "fails_per_s": capacity.fails_per_s, "result": capacity.sentence}
    write_text(path, json.dumps({"format": FORMAT, **result, **asdict(capacity)}, indent=1) + "\n")


def _majority(votes: Iterable[bool]) -> bool:
    votes = list(votes)
    return votes.count(True) > votes.count(False)
