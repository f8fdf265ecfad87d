"""Comparison of a Locust run with perf_analyzer on the same server, and the reasons for differences."""

from dataclasses import dataclass

from loadtest.errors import LoadtestError
from loadtest.judge.slo import BEYOND
from loadtest.records import OPINION_FILE, Run
from loadtest.second_opinion.perf_analyzer import (
    PERCENTILES,
    PerfAnalyzerResult,
    analyze,
    load_result,
    replay,
    save_result,
    server_ms,
)
from measure.callers import percentile
from measure.markdown import number
from measure.server import hit_share

LAST_ANSWERS_S = 1.0
"""Time after the last arrival that still counts: one sampling interval."""

EXPLANATIONS = (
    "Locust counts from when a request was due, perf_analyzer from when it was sent.",
    "The times in Triton differ by batches, cache hits, the generator's use of the same cores, and other work on the "
    "machine: repeat both to see how much.",
    "Locust makes, sends and reads requests in Python, and asks for ranked tags. perf_analyzer is written in C++, "
    "prepares its requests beforehand, and asks for plain scores.",
)
ALBUMS = "Some of Locust's requests have several pictures; for a fair comparison, use the workload singles.toml."


@dataclass(frozen=True)
class SecondOpinion:
    """Table of both results, and explanations of the differences."""

    table: tuple[list[str], list[list[str]]]
    explanations: tuple[str, ...]


def second_opinion(run: Run, url: str) -> SecondOpinion:
    """Repeat the run with perf_analyzer on the same server and save its result in the run's folder.

    Raises LoadtestError.
    """
    result = analyze(url, replay(run))
    opinion = compare(run, result)
    save_result(run.folder / OPINION_FILE, result)
    return opinion


def kept_opinion(run: Run) -> SecondOpinion | None:
    """Load the result of an earlier `second_opinion`, or None; raises LoadtestError if it is damaged."""
    path = run.folder / OPINION_FILE
    return compare(run, load_result(path)) if path.exists() else None


def compare(run: Run, result: PerfAnalyzerResult) -> SecondOpinion:
    """Compare the answered requests of the same time span; raises LoadtestError without samples."""
    samples = [sample["models"] for sample in run.samples if sample["t_s"] <= result.seconds + LAST_ANSWERS_S]
    if len(samples) < 2:
        raise LoadtestError(f"{run.folder} has no samples of Triton, which a comparison needs")
    records = run.records.where((run.records.error < 0) & (run.records.intended_s <= result.seconds))
    if not len(records):
        raise LoadtestError(f"{run.folder} has no answers in its first {result.seconds:.0f} s")
    latency, sent = records.latency_ms(), 1000 * (records.ended_s - records.started_s)
    in_triton, hits = server_ms(samples[0], samples[-1]), hit_share(samples[0], samples[-1])
    lines = [
        ["requests per second", number(len(records) / result.seconds), number(result.requests_per_s)],
        *(
            [f"{name}, ms", number(percentile(latency, percent)), number(getattr(result, f"{name}_ms"))]
            for name, percent in PERCENTILES.items()
            if len(records) * (100 - percent) >= 100 * BEYOND
        ),
        ["mean, ms", number(float(latency.mean())), number(result.mean_ms)],
        ["of it before sending", number(float((latency - sent).mean())), "not counted"],
        ["of it in Triton", number(in_triton), number(result.server_ms)],
        [
            "of it in network, gRPC, client",
            _rest(float(sent.mean()), in_triton),
            _rest(result.mean_ms, result.server_ms),
        ],
        ["pictures per request", number(float(records.rows.mean())), "1"],
        ["encodings from the cache", f"{100 * hits:.0f} %", f"{100 * result.hit_share:.0f} %"],
    ]
    explanations = EXPLANATIONS if records.rows.max() == 1 else (*EXPLANATIONS, ALBUMS)
    return SecondOpinion((["", "Locust", "perf_analyzer"], lines), explanations)


def _rest(whole_ms: float, part_ms: float) -> str:
    """Format the remainder; `-` if the means of Triton and of the client cover different requests."""
    return number(whole_ms - part_ms) if whole_ms >= part_ms else "-"
