"""A run as one HTML page that needs no network, a summary in Markdown, and the verdict as JSON and JUnit XML."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from loadtest import figures
from loadtest.baseline import Comparison, Interval
from loadtest.breakdown_table import Breakdown, breakdown, rows
from loadtest.errors import LoadtestError
from loadtest.junit import to_junit
from loadtest.records import Run
from loadtest.second_opinion import SecondOpinion, kept_opinion
from loadtest.slo import BEYOND, GROUPS, PERCENTILES, requests_needed
from loadtest.verdict import GENERATOR, METRICS, Outcome, Verdict, grouped, in_units, measure, to_json
from measure.files import write_text
from measure.markdown import Table, mib, number, table
from measure.pictures import to_svg

REPORT, SUMMARY, VERDICT, JUNIT = "report.html", "summary.md", "verdict.json", "junit.xml"
MARKS = {
    Outcome.HELD: "good",
    Outcome.MISSED: "bad",
    Outcome.TOO_FEW: "doubt",
    Outcome.NOT_MEASURED: "doubt",
}
WORDS = {"PASSED": "good", "FAILED": "bad"}
"""Of a verdict to its colour; the others are in doubt."""

NAMES = GROUPS | {GENERATOR: "load generator"}


@dataclass(frozen=True, kw_only=True)
class Content:
    """What page and summary tell."""

    run: Run
    verdict: Verdict
    breakdown: Breakdown | None
    breakdown_note: str
    comparison: Comparison | None
    opinion: SecondOpinion | None


def write_report(run: Run, verdict: Verdict, comparison: Comparison | None = None) -> Path:
    """Render a judged run as four files in its folder; the page's path."""
    content, folder = _content(run, verdict, comparison), run.folder
    write_text(folder / VERDICT, json.dumps(to_json(verdict), indent=1) + "\n")
    write_text(folder / JUNIT, to_junit(verdict, duration_s=run.settings.duration_s))
    write_text(folder / SUMMARY, _summary(content))
    write_text(folder / REPORT, _page(content))
    return folder / REPORT


def render(template: str, **values: Any) -> str:
    """A page of the templates' folder; every value is escaped, and a missing one is an error."""
    environment = Environment(
        loader=PackageLoader("loadtest"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(**values)


def settings_lines(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted name and value of every setting, whatever is in it."""
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            lines += settings_lines(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)))
    return lines


def _content(run: Run, verdict: Verdict, comparison: Comparison | None) -> Content:
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
        opinion=kept_opinion(run),
    )


def _page(content: Content) -> str:
    run, verdict = content.run, content.verdict
    width_s = figures.window_s(run)
    pictures: dict[str, Figure | None] = {
        "over_time": figures.over_time(run, verdict.slos),
        "distribution": figures.distribution(run, verdict.slos),
        "against_throughput": figures.against_throughput(run),
        "breakdown": figures.where_the_time_goes(content.breakdown) if content.breakdown else None,
        "machine": figures.machine_load(run, verdict.slos.generator.cpu_share),
    }
    captions = {
        "over_time": f"In windows of {width_s:g} s, by when requests should have left; of one with fewer than 100, p99 "
        "is its slowest. Dashed verticals: the profile's stages.",
        "distribution": "Triangles are the objectives, in their requests' colour: a curve should pass below.",
        "against_throughput": f"A dot is a window of {width_s:g} s.",
        "breakdown": "Means. The upper bar is what the clients waited for, in the order in which it happened.",
        "machine": "The generator's latencies are not valid above its limit.",
    }
    return render(
        "report.html",
        title=_title(run),
        subtitle=_subtitle(run),
        word=verdict.word,
        mark=WORDS.get(verdict.word, "doubt"),
        reasons=[reason[:1].upper() + reason[1:] for reason in verdict.reason.split("; ")],
        tiles=_tiles(content),
        verdict=verdict,
        groups=NAMES,
        metrics=METRICS,
        marks={outcome.name: mark for outcome, mark in MARKS.items()},
        in_units=in_units,
        beyond=BEYOND,
        pictures={name: to_svg(figure) if figure else "" for name, figure in pictures.items()},
        captions=captions,
        group_rows=_group_rows(run),
        error_rows=_error_rows(run),
        breakdown_rows=rows(content.breakdown) if content.breakdown else ((), ()),
        breakdown_note=content.breakdown_note,
        opinion=content.opinion,
        comparison=content.comparison,
        comparison_note=_comparison_note(content.comparison) if content.comparison else "",
        cell=_cell,
        settings=_settings(run),
    )


def _summary(content: Content) -> str:
    run, verdict = content.run, content.verdict
    lines = [f"# {verdict.word}: {_title(run)}", "", _subtitle(run), ""]
    lines += [f"- {reason}" for reason in verdict.reason.split("; ")] + [""]
    lines += table(["", *_tiles(content)], [["**measured**", *_tiles(content).values()]])
    lines += ["", f"## Objectives: `{verdict.slos.name}`", ""]
    lines += table(
        ["of", "metric", "limit", "measured", "requests", ""],
        [
            [
                NAMES[objective.group],
                METRICS[objective.metric].rstrip(","),
                objective.bound,
                "-" if objective.measured is None else in_units(objective.metric, objective.measured),
                f"{objective.requests:,}",
                objective.outcome.value if objective.ok else f"**{objective.outcome.value}**",
            ]
            for objective in verdict.objectives
        ],
    )
    lines += ["", "## Latencies by kind of request", "", *table(*_group_rows(run))]
    errors = _error_rows(run)
    lines += ["", "## Errors", "", *(table(*errors) if errors[1] else ["None."])]
    lines += ["", "## Where the time goes", ""]
    lines += [*table(*rows(content.breakdown)), ""] if content.breakdown else []
    lines += [content.breakdown_note]
    if content.opinion:
        lines += ["", "## A second opinion: perf_analyzer", "", *table(*content.opinion.table), ""]
        lines += [f"- {sentence}" for sentence in content.opinion.explanations]
    if content.comparison:
        changes = [
            [of.name, _cell(of.before, of.before_interval), _cell(of.now, of.now_interval), of.statement]
            for of in content.comparison.changes
        ]
        lines += ["", "## Against the baseline", ""]
        lines += table(["metric", "baseline, mean (95 %)", "now, mean (95 %)", "what can be said"], changes)
        lines += ["", _comparison_note(content.comparison)]
        lines += [f"The environments differ: {difference}." for difference in content.comparison.differences]
    for name, values in _settings(run).items():
        lines += ["", f"## {name.capitalize()}", "", *table(["setting", "value"], [*map(list, values)])]
    return "\n".join(lines) + "\n"


def _title(run: Run) -> str:
    return f"Load test: {run.settings.profile.name or run.folder.name}"


def _subtitle(run: Run) -> str:
    settings = run.settings
    return f"{settings.started}, {settings.duration_s:g} s, {settings.generator.load} load against {settings.url}"


def _tiles(content: Content) -> dict[str, str]:
    run = content.run
    measured = measure(run.records, run.settings.duration_s)
    tiles = {"requests answered a second": number(measured["requests_per_s"])}
    tiles |= {
        f"{METRICS[key].removesuffix(', ms')}, ms": number(measured[key])
        for key in ("p50_ms", "p99_ms")
        if key in measured
    }
    if "error_share" in measured:
        tiles["of requests failed"] = f"{100 * measured['error_share']:.2f} %"
    if content.breakdown:
        encoder = max(content.breakdown.path, key=lambda model: model.total_ms)
        if encoder.batch is not None:
            tiles[f"mean batch, {encoder.name}"] = number(encoder.batch)
        if encoder.cache_hit_share is not None:
            tiles["of encodings from the cache"] = f"{100 * encoder.cache_hit_share:.0f} %"
    return tiles


def _group_rows(run: Run) -> Table:
    heads = ["", "requests", "failed", "requests a second", "mean, ms", "p50", "p95", "p99", "p99.9", "slowest"]
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


def _error_rows(run: Run) -> Table:
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
    return ["error", "requests", "share", "seconds since the start", "after, ms, mean"], lines


def _settings(run: Run) -> dict[str, list[tuple[str, str]]]:
    settings = run.settings.plain()
    named = {name: settings[name] for name in ("environment", "profile", "workload", "server_config")}
    generator = {key: value for key, value in settings["generator"].items() if key != "cpu_share"}
    named["generator"] = generator | {"url": settings["url"], "started": settings["started"]}
    return {name.replace("_", " "): settings_lines(values) for name, values in named.items() if values}


def _breakdown_note(table: Breakdown) -> str:
    sentences = ["Triton's own counters, ms a request, those that the cache answered included."]
    sentences += [f"{model.name} runs beside {table.path[0].name}, which takes longer." for model in table.aside]
    if table.cpu_share is not None:
        sentences.append(f"The server used {100 * table.cpu_share:.0f} % of a core on average.")
    if table.memory_bytes is not None:
        sentences.append(f"It held at most {mib(table.memory_bytes)}.")
    if table.gpu_utilization is not None:
        sentences.append(f"The GPU was used {100 * table.gpu_utilization:.0f} % on average.")
    if table.ended:
        sentences.append(f"The server was sampled no longer, as it had gone: {table.ended}.")
    return " ".join(sentences)


def _comparison_note(comparison: Comparison) -> str:
    before, now = comparison.runs
    return (
        f"{before} runs before, {now} now. Intervals are over runs: Student's t, and Welch's for the change. Each is "
        f"right 95 times in 100: of these {len(comparison.changes)} metrics, one or so may show by chance."
    )


def _cell(mean: float, interval: Interval | None) -> str:
    return number(mean) if interval is None else f"{number(mean)} ({number(interval[0])} to {number(interval[1])})"
