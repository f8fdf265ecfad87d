"""Content shared by the page and the summary of a judged run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.errors import LoadtestError
from loadtest.judge.baseline import Comparison, Interval
from loadtest.judge.breakdown import Breakdown, breakdown
from loadtest.judge.slo import GROUPS, PERCENTILES, requests_needed
from loadtest.judge.verdict import GENERATOR, METRICS, Objective, Outcome, Verdict, grouped, in_units, measure
from loadtest.records import Run
from loadtest.second_opinion.compare import SecondOpinion
from measure.markdown import Table, mib, number

NAMES = GROUPS | {GENERATOR: "load generator"}


@dataclass(frozen=True, kw_only=True)
class Content:
    """Content of page and summary."""

    run: Run
    verdict: Verdict
    breakdown: Breakdown | None
    breakdown_note: str
    comparison: Comparison | None
    opinion: SecondOpinion | None


def content_of(run: Run, verdict: Verdict, comparison: Comparison | None, opinion: SecondOpinion | None) -> Content:
    """Gather the content of page and summary."""
    try:
        table, note = breakdown(run), ""
    except LoadtestError as error:
        table, note = None, f"No breakdown: {error}."
    if table:
        note = _breakdown_note(table)
    return Content(
        run=run,
        verdict=verdict,
        breakdown=table,
        breakdown_note=note,
        comparison=comparison,
        opinion=opinion,
    )


def title(run: Run) -> str:
    """Return the title of page and summary."""
    return f"Load test: {run.settings.profile.name or run.folder.name}"


def subtitle(run: Run) -> str:
    """Format start, duration, kind of load and server."""
    settings = run.settings
    return f"{settings.started}, {settings.duration_s:g} s, {settings.generator.load} load against {settings.url}"


def tiles(content: Content) -> dict[str, str]:
    """Format the headline figures by label, without percentiles of too few answered requests."""
    run = content.run
    measured = measure(run.records, run.settings.duration_s)
    answered = int(np.count_nonzero(run.records.error < 0))
    tiles = {"answers per second": number(measured["requests_per_s"])}
    if "error_share" in measured:
        tiles["of requests failed"] = f"{100 * measured['error_share']:.2f} %"
    tiles |= {
        f"{METRICS[key]}, ms": number(measured[key])
        for key in ("p50_ms", "p99_ms")
        if answered >= requests_needed(key, 0)
    }
    if content.breakdown:
        encoder = max(content.breakdown.path, key=lambda model: model.total_ms)
        if encoder.batch is not None:
            tiles[f"mean batch, {encoder.name}"] = number(encoder.batch)
        if encoder.cache_hit_share is not None:
            tiles["of encodings cached"] = f"{100 * encoder.cache_hit_share:.0f} %"
    return tiles


def group_rows(run: Run) -> Table:
    """Make the table of latencies by group of requests."""
    heads = ["", "requests", "failed", "answers per second", "mean, ms", "p50", "p95", "p99", "p99.9", "slowest"]
    lines = []
    for group, records in grouped(run.records).items():
        measured = measure(records, run.settings.duration_s)
        answered = records.where(records.error < 0).latency_ms()
        if not len(records):
            continue
        line = [GROUPS[group], f"{len(records):,}", f"{len(records) - len(answered):,}"]
        line += [number(measured["requests_per_s"])]
        if len(answered):
            enough = {key: len(answered) >= requests_needed(key, 0) for key in PERCENTILES}
            line += [number(float(answered.mean()))]
            line += [number(measured[key]) if enough[key] else "-" for key in PERCENTILES]
            line += [number(float(answered.max()))]
        else:
            line += ["-"] * 6
        lines.append(line)
    return heads, lines


def error_rows(run: Run) -> Table:
    """Make the table of errors by message, the most frequent first."""
    records = run.records
    lines = []
    for index in np.unique(records.error[records.error >= 0]):
        of = records.where(records.error == index)
        share = 100 * len(of) / len(records)
        when = f"{of.ended_s.min():.1f} to {of.ended_s.max():.1f}"
        lines.append(
            [records.errors[index], f"{len(of):,}", f"{share:.2f} %", when, number(float(of.latency_ms().mean()))]
        )
    lines.sort(key=lambda line: -int(line[1].replace(",", "")))
    return ["error", "requests", "share", "seconds since the start", "mean time to fail, ms"], lines


def settings_of(run: Run) -> dict[str, list[tuple[str, str]]]:
    """List the settings by section, as pairs of name and value."""
    settings = run.settings.plain()
    named = {name: settings[name] for name in ("environment", "profile", "workload", "server_config")}
    generator = {key: value for key, value in settings["generator"].items() if key not in ("cpu_share", "remote")}
    named["generator"] = generator | {"url": settings["url"], "started": settings["started"]}
    named["workers"] = {str(worker["number"]): worker for worker in settings["generator"]["remote"]}
    return {name.replace("_", " "): settings_lines(values) for name, values in named.items() if values}


def settings_lines(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List the dotted name and value of every setting, nested ones included."""
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            lines += settings_lines(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)))
    return lines


def comparison_note(comparison: Comparison) -> str:
    """Explain the intervals of a comparison."""
    before, now = comparison.runs
    return (
        f"{before} runs before, {now} now. Means are geometric, except for error shares. Intervals are over runs: "
        f"Student's t, and Welch's for a change. Each misses the true value with a chance of 5 %, so one of "
        f"these {len(comparison.changes)} metrics may differ by chance."
    )


def measured_cell(objective: Objective) -> str:
    """Format the measured value of an objective; `-` without one, or for a percentile of too few requests."""
    if objective.measured is None or (objective.outcome is Outcome.TOO_FEW and objective.metric in PERCENTILES):
        return "-"
    return in_units(objective.metric, objective.measured)


def interval_cell(mean: float, interval: Interval | None) -> str:
    """Format a mean with its interval."""
    return number(mean) if interval is None else f"{number(mean)} ({number(interval[0])} to {number(interval[1])})"


def breakdown_caption(table: Breakdown | None) -> str:
    """Return the caption for the picture of a breakdown."""
    if table is None or table.incomparable:
        return "Means of each model."
    return "Means. The upper bar is the clients' latency, its parts in the order in which they happen."


def _breakdown_note(table: Breakdown) -> str:
    sentences = [f"Not comparable with the clients' latencies: {table.incomparable}."] if table.incomparable else []
    sentences += ["Means per request from Triton's own counters, in ms, cache hits included."]
    sentences += [f"{model.name} runs beside {table.path[0].name}, which takes longer." for model in table.aside]
    if table.cpu_share is not None:
        sentences.append(f"The server used {100 * table.cpu_share:.0f} % of a core on average.")
    if table.memory_bytes is not None:
        sentences.append(f"Its peak memory was {mib(table.memory_bytes)}.")
    if table.gpu_utilization is not None:
        sentences.append(f"The GPU was {100 * table.gpu_utilization:.0f} % busy on average.")
    if table.ended:
        sentences.append(f"Sampling ended early because the server was gone: {table.ended}.")
    return " ".join(sentences)
