"""Results of the study by row, and the cells that show them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from training.ablation.parts import Part
from training.ablation.rows import Question, Row
from training.ablation.study import Study
from training.evaluate import NEW, WITH, Metrics

PRECISION = "precision@5"


@dataclass(frozen=True)
class Results:
    """The finished runs of one data set. `used` collects the figures that the report has asked for."""

    study: Study
    metrics: Mapping[str, Sequence[Metrics]]
    """Run to one result for each seed."""
    used: dict[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    """Run and method to metric to one value for each seed."""

    @property
    def groups(self) -> dict[str, str]:
        """Prefix of the methods' names to name of the users that were measured: known ones, and new ones if any."""
        methods = {method for seeds in self.metrics.values() for seed in seeds for method in seed}
        return {"": "known users"} | ({NEW: "new users"} if f"{NEW}{WITH}" in methods else {})

    def has(self, *rows: Row) -> bool:
        """Whether the runs of all these rows were done."""
        return all(row.run in self.metrics for row in rows)

    def measures(self, row: Row, metric: str) -> bool:
        """Whether the row has this metric, for known users."""
        return all(metric in seed[row.method(WITH)] for seed in self.metrics[row.run])

    def values(self, row: Row, metric: str = PRECISION, *, history: str = WITH, group: str = "") -> list[float]:
        """One value for each seed; `group`: "" for known users, NEW for new ones."""
        method = f"{group}{row.method(history)}"
        values = [seed[method][metric] for seed in self.metrics[row.run]]
        kept = self.used.setdefault(f"{row.run}, {method}", {})
        self.used[f"{row.run}, {method}"] = {**kept, metric: values}
        return values

    def cell(self, row: Row, metric: str = PRECISION, *, history: str = WITH, group: str = "") -> str:
        """Mean and deviation over the seeds."""
        return cell(self.values(row, metric, history=history, group=group))

    def difference(self, question: Question, *, history: str = WITH, group: str = "") -> str:
        """The difference of the question's rows: seed by seed, so that what both have in common cancels out."""
        row, over = (
            self.values(row, question.metric, history=history, group=group) for row in (question.row, question.over)
        )
        return cell([a - b for a, b in zip(row, over, strict=True)], sign="+")


def read_results(part: Part, seeds: int) -> list[Results]:
    """The results of a finished part, of each of its data sets."""
    return [
        Results(study, {run: [study.metrics(run, seed) for seed in range(seeds)] for run in part.runs})
        for study in part.studies
    ]


def cell(values: Sequence[float], sign: str = "") -> str:
    """Mean and sample standard deviation."""
    return f"{mean(values):{sign}.3f}\u00b1{deviation(values):.3f}"


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 for a single value."""
    return stdev(values) if len(values) > 1 else 0.0


Column = tuple[str, Callable[[Results, Row], str]]
"""Heading, and the cell of a row."""


def column(heading: str, metric: str = PRECISION, *, history: str = WITH, group: str = "") -> Column:
    """A column of a table."""
    return heading, lambda results, row: results.cell(row, metric, history=history, group=group)
