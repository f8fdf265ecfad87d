"""Report of a capacity search: picture and page."""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from loadtest.capacity.search import Capacity
from loadtest.judge.slo import SLOs, given
from loadtest.records import RunSettings
from loadtest.report.content import settings_lines
from loadtest.report.figures import limit_line
from loadtest.report.page import render
from measure.files import write_text
from measure.markdown import Table, number
from measure.pictures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    SMALL,
    legend,
    logarithmic_ms,
    new_figure,
    save_png,
    style,
    to_svg,
)

PICTURE, PAGE = "capacity.png", "capacity.html"
Point = tuple[float, float]
"""Rate and ms."""
COLOURS = {"p50_ms": GREEN, "p95_ms": BLUE, "p99_ms": ORANGE}


def write_capacity_report(folder: Path, capacity: Capacity, slos: SLOs, of_step: RunSettings) -> Path:
    """Write picture and page of the result so far; `of_step` is the settings of one run."""
    figure = curve(capacity, slos)
    save_png(figure, folder / PICTURE)
    heads, rows = _table(capacity)
    rate = capacity.rate_per_s
    word = "NONE" if rate is None else f"{number(rate)} requests per second"
    plain = of_step.plain()
    settings = {name: plain[name] for name in ("environment", "workload", "server_config")}
    shown = {name.replace("_", " "): settings_lines(values) for name, values in settings.items() if values}
    page = render(
        "capacity.html",
        title=f"Capacity under the SLOs {slos.name}",
        subtitle=f"{of_step.started}, against {of_step.url}",
        word=word,
        mark="bad" if rate is None else "good" if capacity.finished and not capacity.generator_bound else "doubt",
        reasons=[capacity.sentence],
        picture=to_svg(figure),
        table=(heads, rows),
        settings=shown,
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def curve(capacity: Capacity, slos: SLOs) -> Figure:
    """Draw p50, p95 and p99 against the rate: dots are runs, lines their medians, dashes the limits."""
    figure = new_figure(4.2)
    axis = figure.subplots()
    style(axis, "Latency against rate", x="requests per second", y="ms")
    rates = sorted(capacity.votes())
    for key, colour in COLOURS.items():
        dots = [(s.rate_per_s, value) for s in capacity.steps if (value := getattr(s, key)) is not None]
        medians = {r: float(np.median([ms for rate, ms in dots if rate == r])) for r in rates if r in dict(dots)}
        axis.plot(*zip(*dots, strict=True) if dots else ((), ()), "o", color=colour, markersize=4, alpha=0.5)
        axis.plot(list(medians), list(medians.values()), color=colour, linewidth=1.6, label=key.removesuffix("_ms"))
        if key in given(slos.all):
            limit_line(axis, key.removesuffix("_ms"), given(slos.all)[key], colour)
    above, other = _missed(capacity, slos)
    for marker, label, points in (("x", "above its limit", above), ("P", "another objective missed", other)):
        if points:
            axis.plot(*zip(*points, strict=True), marker, color=RED, markersize=8, label=label)
    if capacity.rate_per_s is not None:
        axis.axvline(capacity.rate_per_s, color=INK, linewidth=1.4)
        axis.annotate(
            f"capacity {number(capacity.rate_per_s)} per second ",
            (capacity.rate_per_s, 0.02),
            xycoords=("data", "axes fraction"),
            color=INK,
            fontsize=SMALL,
            fontweight="bold",
            ha="right",
        )
    logarithmic_ms(axis)
    legend(axis, columns=5)
    return figure


def _missed(capacity: Capacity, slos: SLOs) -> tuple[list[Point], list[Point]]:
    """Find the points of failed runs: latencies above their limit, and the p99 of runs that missed other objectives."""
    limits, above, other = given(slos.all), list[Point](), list[Point]()
    for step in capacity.steps:
        missed = [
            (step.rate_per_s, ms)
            for key in COLOURS
            if (ms := getattr(step, key)) is not None and ms > limits.get(key, math.inf)
        ]
        above += missed
        if not step.held and not missed and step.p99_ms is not None:
            other.append((step.rate_per_s, step.p99_ms))
    return above, other


def _table(capacity: Capacity) -> Table:
    heads = ["rate", "answered", *(key.removesuffix("_ms") + ", ms" for key in COLOURS), "errors", "held", "why not"]
    lines = []
    for step in sorted(capacity.steps, key=lambda step: step.rate_per_s):
        latencies = [getattr(step, key) for key in COLOURS]
        lines.append(
            [number(step.rate_per_s), number(step.answered_per_s)]
            + ["-" if ms is None else number(ms) for ms in latencies]
            + [f"{100 * step.error_share:.2f} %", "yes" if step.held else "no", step.reason]
        )
    return heads, lines
