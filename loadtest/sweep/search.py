"""Search for the config settings that serve a workload best.

One setting is tried at a time, with the others at their best value so far. Each of its values is served by its own
Triton. All of them run at once, and are loaded in turn in changing order. They are compared round by round, so that
other work on the machine affects all of them alike. The winner is finally compared with the committed configs.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from altreco_client import AltrecoError

from deploy.local import ServerError, on_free_ports, serve
from loadtest.errors import LoadtestError
from loadtest.sweep.configs import Point, SweepPlan, Value, committed, has_effect, label, write_variant
from measure.files import write_text
from measure.turns import order

FORMAT = "altreco-loadtest-sweep-1"
MARGIN = 1.02
"""Smallest median ratio that counts as a difference, if every round shows it."""
PASSES = 2
"""Passes over the plan: a setting is tried again if another one has changed since."""
FOR_INFORMATION = ".dynamic_batching"
"""Measured but never adopted: batches matter most under more load than a sweep sends."""
MORE_IS_BETTER = ("pictures_per_s",)
SERVER: Mapping[str, Any] = {"strict": True, "stop_timeout_s": 0}

Figures = Mapping[str, float]
Measure = Callable[[str], Figures]
"""Loads the server at host:port and returns the values by metric."""
Serve = Callable[[Path], AbstractContextManager[str]]
"""Serves a repository and gives its host:port."""


@contextmanager
def serve_strictly(repository: Path) -> Iterator[str]:
    """Run a Triton on this machine and give its host:port."""
    with serve(on_free_ports(repository, **SERVER)) as server:
        yield server.grpc_url


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Settings and their results, one set of metrics per round. `failed` says why there are none."""

    label: str
    point: Point
    rounds: tuple[Figures, ...] = ()
    failed: str = ""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Candidates of one comparison; the first is the one that the others are compared with."""

    setting: str
    candidates: tuple[Candidate, ...]

    @property
    def base(self) -> Candidate:
        """Candidate that the others are compared with."""
        return self.candidates[0]

    def gains(self, candidate: Candidate) -> dict[str, list[float]]:
        """Compute the ratios to the base by metric, one per round; above 1 the candidate is better."""
        gains: dict[str, list[float]] = {}
        for before, now in zip(self.base.rounds, candidate.rounds, strict=False):
            for metric, value in now.items():
                ratio = value / before[metric]
                gains.setdefault(metric, []).append(ratio if metric in MORE_IS_BETTER else 1 / ratio)
        return gains

    def verdict(self, candidate: Candidate) -> str:
        """Return `better` (in a metric and worse in none), `worse`, `mixed`, `same`, `failed` or `not measured`."""
        if candidate.failed or not candidate.rounds:
            return "failed" if candidate.failed else "not measured"
        gains = self.gains(candidate).values()
        better = any(min(ratios) > 1 and median(ratios) >= MARGIN for ratios in gains)
        worse = any(max(ratios) < 1 and median(ratios) <= 1 / MARGIN for ratios in gains)
        return "mixed" if better and worse else "better" if better else "worse" if worse else "same"

    @property
    def winner(self) -> Candidate:
        """Better candidate with the largest mean gain over all metrics; the base if none is better."""
        better = [candidate for candidate in self.candidates[1:] if self.verdict(candidate) == "better"]
        return max(better, key=lambda of: geometric_mean(map(median, self.gains(of).values())), default=self.base)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Results so far."""

    committed: Point
    trials: tuple[Trial, ...] = ()
    confirmation: Trial | None = None
    """Final comparison of the best settings with the committed ones."""
    finished: bool = False

    @property
    def recommended(self) -> Point:
        """Best settings if they beat the committed ones, otherwise those."""
        return self.confirmation.winner.point if self.confirmation and self.finished else self.committed

    @property
    def changes(self) -> Point:
        """Recommended settings that differ from the committed ones."""
        return {key: value for key, value in self.recommended.items() if value != self.committed[key]}


@dataclass
class Search:
    """A sweep; `keep` gets the results so far after each measurement."""

    repository: Path
    measure: Measure
    rounds: int
    keep: Callable[[Sweep], None]
    serve: Serve = serve_strictly
    known: Sweep = field(init=False)

    def run(self, plan: SweepPlan) -> Sweep:
        """Try all settings; raises LoadtestError, also if the committed configs cannot be served."""
        best = committed(self.repository, plan)
        self.known = Sweep(committed=best)
        tried: dict[str, Point] = {}
        for _ in range(PASSES):
            for key, values in plan.values().items():
                others = [value for value in values if value != best[key]]
                if tried.get(key) != best and others and has_effect(key, best):
                    trial = self._try(key, best, others)
                    best = trial.base.point if key.endswith(FOR_INFORMATION) else trial.winner.point
                    tried[key] = best
        if best != self.known.committed:
            points = {"committed": self.known.committed, "best": best}
            self._compare("all", points, lambda trial: replace(self.known, confirmation=trial))
        self._keep(replace(self.known, finished=True))
        return self.known

    def _try(self, key: str, best: Point, values: Sequence[Value]) -> Trial:
        points = {label(value): {**best, key: value} for value in (best[key], *values)}
        trials = self.known.trials
        return self._compare(key, points, lambda trial: replace(self.known, trials=(*trials, trial)))

    def _compare(self, setting: str, points: Mapping[str, Point], known: Callable[[Trial], Sweep]) -> Trial:
        """Serve all candidates and load them in turn. The first must work; others that fail are dropped."""
        trial = Trial(setting=setting, candidates=tuple(Candidate(label=name, point=of) for name, of in points.items()))
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="altreco-sweep-")))
            urls: dict[str, str] = {}
            for i, candidate in enumerate(trial.candidates):
                variant = write_variant(self.repository, folder / str(i), candidate.point)
                try:
                    urls[candidate.label] = stack.enter_context(self.serve(variant))
                except ServerError as error:
                    trial = _failed(trial, candidate, error)
            for number in range(self.rounds):
                for candidate in order(trial.candidates, number):
                    if not candidate.failed:
                        trial = self._load(trial, candidate, urls[candidate.label])
                        self._keep(known(trial))
        return trial

    def _load(self, trial: Trial, candidate: Candidate, url: str) -> Trial:
        try:
            figures = self.measure(url)
        except AltrecoError as error:
            return _failed(trial, candidate, error)
        return _with(trial, replace(candidate, rounds=(*candidate.rounds, figures)))

    def _keep(self, known: Sweep) -> None:
        self.known = known
        self.keep(known)


def save_sweep(path: Path, sweep: Sweep, conditions: Mapping[str, Any]) -> None:
    """Write all measurements as JSON atomically."""
    result = {"recommended": sweep.recommended, "changes": sweep.changes}
    write_text(
        path, json.dumps({"format": FORMAT, "conditions": conditions, **result, **asdict(sweep)}, indent=1) + "\n"
    )


def _with(trial: Trial, changed: Candidate) -> Trial:
    return replace(trial, candidates=tuple(changed if of.label == changed.label else of for of in trial.candidates))


def _failed(trial: Trial, candidate: Candidate, error: Exception) -> Trial:
    if candidate.label == trial.base.label:
        raise LoadtestError(
            f"{trial.setting} = {candidate.label}, the setting to improve on, failed: {error}"
        ) from error
    return _with(trial, replace(candidate, failed=str(error)))
