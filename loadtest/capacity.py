"""The highest rate that holds the SLOs: steps upwards until one fails, then bisection, with repeats at the border."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from loadtest.errors import LoadtestError
from loadtest.records import Run
from loadtest.slo import PERCENTILES, SLOs, given, requests_needed
from loadtest.verdict import Outcome, check, measure
from measure.files import write_text
from measure.markdown import number

FORMAT = "altreco-loadtest-capacity-1"
LOWEST = 64
"""Where even the first rate fails, rates down to this fraction of it are tried."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """How it is searched for; rates are requests a second."""

    start_per_s: float = 5
    growth: float = 1.5
    """From step to step, until one fails."""
    most_per_s: float = 5000
    precision: float = 0.05
    """Between the rate that holds and the one that does not, at the end, as a share of the first."""
    repeats: int = 3
    """At the border, where noise decides: the majority of so many counts."""

    def __post_init__(self) -> None:
        """Raises LoadtestError for a search that would not end."""
        if not 0 < self.start_per_s <= self.most_per_s < math.inf:
            raise LoadtestError(
                f"start at {self.start_per_s:g} a second: give a rate above 0, up to {self.most_per_s:g}"
            )
        if not 1 < self.growth < math.inf or not 0 < self.precision < 1:
            raise LoadtestError(
                f"growth {self.growth:g}, precision {self.precision:g}: give one above 1, one of 0 to 1"
            )
        if self.repeats < 1 or self.repeats % 2 == 0:
            raise LoadtestError(f"{self.repeats} repeats have no majority: give an odd number")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measured run; `valid` is whether the generator kept to its limits, `reason` why it did not hold."""

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
    """What is known so far; `finished` is False while it runs, and where it was interrupted."""

    search: Search
    steps: tuple[Step, ...]
    finished: bool

    @property
    def rate_per_s(self) -> float | None:
        """The highest rate that held, below all that did not; None: there is none."""
        fails = self.fails_per_s
        held = [rate for rate, votes in self.votes().items() if _majority(votes)]
        return max((rate for rate in held if fails is None or rate < fails), default=None)

    @property
    def fails_per_s(self) -> float | None:
        """The lowest rate that did not hold; None: all did."""
        return min((rate for rate, votes in self.votes().items() if not _majority(votes)), default=None)

    @property
    def generator_bound(self) -> bool:
        """Whether the border is the generator's: it could not send what the server may have held."""
        return any(not step.valid and step.rate_per_s == self.fails_per_s for step in self.steps)

    def votes(self) -> Mapping[float, Sequence[bool]]:
        """Rate to whether it held, run by run."""
        votes: dict[float, list[bool]] = {}
        for step in self.steps:
            votes.setdefault(step.rate_per_s, []).append(step.held)
        return votes

    @property
    def sentence(self) -> str:
        """The result in words, with how sure it is."""
        rate, fails = self.rate_per_s, self.fails_per_s
        if rate is None:
            return "No rate held the SLOs" + (f", down to {number(fails)} a second" if fails else "")
        votes = self.votes()[rate]
        sentence = f"{number(rate)} requests a second held the SLOs in {sum(votes)} of {len(votes)} runs"
        if fails is None:
            sentence += ", and no higher rate was tried: the capacity is higher"
        else:
            votes = self.votes()[fails]
            sentence += f"; {number(fails)} did not in {votes.count(False)} of {len(votes)}"
        if self.generator_bound:
            sentence += ", where the load generator was at its limit: the server's capacity may be higher"
        return sentence + ("" if self.finished else ". The search did not end")


def search(measured: Callable[[float], Step], settings: Search, keep: Callable[[Capacity], None]) -> Capacity:
    """Measure rates until the border is as close as `precision`; `keep` is given what is known after every step."""
    steps: list[Step] = []

    def holds(rate: float, *, repeated: bool) -> bool:
        """The first run's answer when it held and need not be `repeated`, otherwise the majority's."""
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
    """The rate to measure, between what holds and what does not; None: it is found."""
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
    """A run at that rate held against all but throughput, which is what is looked for.

    Raises LoadtestError where it had too few requests to tell: no search can be built on that.
    """
    verdict = check(run, without_throughput(slos))
    outcomes = {objective.outcome for objective in verdict.objectives}
    if Outcome.MISSED not in outcomes and Outcome.TOO_FEW in outcomes:
        raise LoadtestError(f"{run.folder}: {verdict.reason}: take longer steps, or start at a higher rate")
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
    """The same, without what a low rate cannot have."""
    limits = {group: replace(of, requests_per_s=None) for group, of in slos.limits().items()}
    return SLOs(name=slos.name, generator=slos.generator, **limits)


def step_s(slos: SLOs, rate_per_s: float, precision: float, least_s: float) -> float:
    """Seconds of a step: enough requests for its percentiles, and for an overload to show.

    Just above capacity, by `precision`, the queue grows by that share of the time: the step is as long as that takes to
    reach the longest of the limits.
    """
    limits = given(slos.all)
    needed = max((requests_needed(metric, limit) for metric, limit in limits.items()), default=1)
    longest_s = max((limit / 1000 for metric, limit in limits.items() if metric in PERCENTILES), default=0)
    return max(least_s, 1.1 * needed / rate_per_s, longest_s / precision)


def save_capacity(path: Path, capacity: Capacity) -> None:
    """Write all steps as JSON, with the result so far."""
    result = {"rate_per_s": capacity.rate_per_s, "fails_per_s": capacity.fails_per_s, "result": capacity.sentence}
    write_text(path, json.dumps({"format": FORMAT, **result, **asdict(capacity)}, indent=1) + "\n")


def load_capacity(path: Path) -> Capacity:
    """What `save_capacity` wrote; raises LoadtestError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        steps = tuple(Step(**step) for step in values["steps"])
        return Capacity(search=Search(**values["search"]), steps=steps, finished=values["finished"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadtestError(f"{path} holds no capacity search ({error}): search again") from error


def _majority(votes: Iterable[bool]) -> bool:
    votes = list(votes)
    return votes.count(True) > votes.count(False)
