"""A Locust run beside perf_analyzer on the same server at the same moments, and where their difference comes from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.errors import LoadtestError
from loadtest.perf_analyzer import (
    PERCENTILES,
    PerfAnalyzerResult,
    analyze,
    load_result,
    replay,
    save_result,
    server_ms,
)
from loadtest.records import OPINION_FILE, Run
from measure.callers import percentile
from measure.server import hit_share, replicas

LAST_ANSWERS_S = 1.0
"""After the last arrival; as long as from sample to sample."""


@dataclass(frozen=True)
class SecondOpinion:
    """Both side by side, as heads and lines of a table, and where the differences come from."""

    table: tuple[list[str], list[list[str]]]
    explanations: tuple[str, ...]


def second_opinion(run: Run, url: str) -> SecondOpinion:
    """Repeat the run with perf_analyzer, on the same server, and keep its result in the run's folder.

    Raises LoadtestError.
    """
    if len(replicas(url)) > 1:
        raise LoadtestError(f"{url} are several servers, and perf_analyzer asks one: give the --url of one")
    result = analyze(url, replay(run))
    opinion = compare(run, result)
    save_result(run.folder / OPINION_FILE, result)
    return opinion


def kept_opinion(run: Run) -> SecondOpinion | None:
    """That of an earlier `second_opinion`; None: there is none. Raises LoadtestError for a damaged one."""
    path = run.folder / OPINION_FILE
    return compare(run, load_result(path)) if path.exists() else None


def compare(run: Run, result: PerfAnalyzerResult) -> SecondOpinion:
    """The run's answered requests beside perf_analyzer's, of the same span; raises LoadtestError without samples."""
    samples = [sample["models"] for sample in run.samples if sample["t_s"] <= result.seconds + LAST_ANSWERS_S]
    if len(samples) < 2:
        raise LoadtestError(f"{run.folder} has no samples of Triton: nothing says where its latencies come from")
    records = run.records.where((run.records.error < 0) & (run.records.intended_s <= result.seconds))
    if not len(records):
        raise LoadtestError(f"{run.folder} has no answers in its first {result.seconds:.0f} s")
    latency, sent = records.latency_ms(), 1000 * (records.ended_s - records.started_s)
    in_triton, hits = server_ms(samples[0], samples[-1]), hit_share(samples[0], samples[-1])
    lines = [
        ["requests a second", _text(len(records) / result.seconds), _text(result.requests_per_s)],
        *(
            [f"{name}, ms", _text(percentile(latency, int(name[1:]))), _text(getattr(result, f"{name}_ms"))]
            for name in PERCENTILES
        ),
        ["mean, ms", _text(float(latency.mean())), _text(result.mean_ms)],
        ["of it before it left", _text(float((latency - sent).mean())), "not counted"],
        ["of it in Triton", _text(in_triton), _text(result.server_ms)],
        ["of it between", _text(float(sent.mean()) - in_triton), _text(result.mean_ms - result.server_ms)],
        ["pictures a request", _text(float(records.rows.mean())), "1"],
        ["encodings from the cache", f"{100 * hits:.0f} %", f"{100 * result.hit_share:.0f} %"],
    ]
    return SecondOpinion((["", "Locust", "perf_analyzer"], lines), tuple(_explanations(records.rows, lines)))


def _explanations(rows: NDArray[np.int16], lines: list[list[str]]) -> Iterator[str]:
    values = {name: (locust, other) for name, locust, other in lines}
    yield (
        f"Locust counts from when a request should have left, {values['of it before it left'][0]} ms before it did on "
        "average; perf_analyzer counts from when it leaves."
    )
    yield (
        "In Triton, by its own count: {} ms and {} ms a request. Batches, cache hits and what the generator takes of "
        "the same cores make the difference, and whatever else the machine did: repeat both to see how much.".format(
            *values["of it in Triton"]
        )
    )
    yield (
        "Between client and Triton: {} ms and {} ms. Locust's requests are made, sent and read by Python and ask for "
        "ranked tags; perf_analyzer is C++, made them beforehand, and takes the scores as they are.".format(
            *values["of it between"]
        )
    )
    if rows.max() > 1:
        yield (
            f"Locust's requests have {rows.mean():.2f} pictures on average, perf_analyzer's one: compare a run of "
            "single pictures, with the workload singles.toml."
        )


def _text(value: float) -> str:
    return f"{value:,.2f}"
