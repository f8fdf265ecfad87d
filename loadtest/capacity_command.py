"""The command that searches for capacity, and its picture and page: `python -m loadtest capacity`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from loadtest.capacity import Capacity, Search, judged, save_capacity, search, step_s
from loadtest.records import Run, RunSettings
from loadtest.report import render, settings_lines
from loadtest.slo import SLOs, given, load_slos
from measure.files import write_text
from measure.markdown import Table, number, table
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

CAPACITY, PICTURE, PAGE, SUMMARY = "capacity.json", "capacity.png", "capacity.html", "capacity.md"
COLOURS = {"p50_ms": GREEN, "p95_ms": BLUE, "p99_ms": ORANGE}
DEFAULTS = Search()

Load = Callable[[float, float, Path], Run]
"""Open load at a rate (requests a second) for so many seconds, written to a folder; raises LoadtestError."""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `capacity` to the subparsers; the options of the load itself are the caller's."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "capacity", help="the highest rate that holds the SLOs", description=__doc__
    )
    option = parser.add_argument
    option("--slos", type=Path, required=True, help="TOML; its throughput is not asked for")
    option("--out", type=Path, default=Path("build/loadtest/capacity"), help="folder (%(default)s)")
    option("--start", type=float, default=DEFAULTS.start_per_s, metavar="RATE", help="requests a second (%(default)g)")
    option("--most", type=float, default=DEFAULTS.most_per_s, metavar="RATE", help="never above it (%(default)g)")
    option("--growth", type=float, default=DEFAULTS.growth, metavar="FACTOR", help="of a step (%(default)g)")
    option("--precision", type=float, default=DEFAULTS.precision, metavar="SHARE", help="of the rate (%(default)g)")
    option("--repeats", type=int, default=DEFAULTS.repeats, help="at the border, an odd number (%(default)s)")
    option("--step-seconds", type=float, default=15, metavar="S", help="at least; the SLOs may need more (%(default)g)")
    return parser


def run(arguments: argparse.Namespace, load: Load) -> int:
    """Search, and keep every step; 0, or 1 where no rate holds or the generator was the limit. Raises LoadtestError."""
    slos = load_slos(arguments.slos)
    settings = Search(
        start_per_s=arguments.start,
        most_per_s=arguments.most,
        growth=arguments.growth,
        precision=arguments.precision,
        repeats=arguments.repeats,
    )
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []

    def measured(rate_per_s: float) -> Any:
        seconds = step_s(slos, rate_per_s, settings.precision, arguments.step_seconds)
        folder = out / f"step-{len(runs) + 1:02d}"
        print(f"{folder.name}: {number(rate_per_s)} requests a second for {seconds:.0f} s", flush=True)
        runs.append(load(rate_per_s, seconds, folder))
        step = judged(runs[-1], slos, rate_per_s)
        print(f"   {'held' if step.held else step.reason}", flush=True)
        return step

    def keep(capacity: Capacity) -> None:
        save_capacity(out / CAPACITY, capacity)
        write_capacity_report(out, capacity, slos, runs[-1].settings)

    found = search(measured, settings, keep)
    print(f"{found.sentence}\nwrote {out / PAGE}")
    return 0 if found.rate_per_s is not None and not found.generator_bound else 1


def write_capacity_report(folder: Path, capacity: Capacity, slos: SLOs, of_step: RunSettings) -> Path:
    """Picture, page and summary of what is known so far; settings are those of a step."""
    figure = curve(capacity, slos)
    save_png(figure, folder / PICTURE)
    heads, rows = _table(capacity)
    rate = capacity.rate_per_s
    word = "NONE" if rate is None else f"{number(rate)} requests a second"
    plain = of_step.plain()
    settings = {name: plain[name] for name in ("environment", "workload", "server_config")}
    shown = {name.replace("_", " "): settings_lines(values) for name, values in settings.items() if values}
    lines = [f"# Capacity: {word}", "", f"{capacity.sentence}.", "", f"![Latency against rate]({PICTURE})", ""]
    lines += table(heads, rows)
    for name, values in shown.items():
        lines += ["", f"## {name.capitalize()}", "", *table(["setting", "value"], [*map(list, values)])]
    write_text(folder / SUMMARY, "\n".join(lines) + "\n")
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
    """p50, p95 and p99 against the rate: the median of each rate's runs as a line, the runs as dots; limits dashed."""
    figure = new_figure(4.2)
    axis = figure.subplots()
    style(axis, "Latency against rate", x="requests a second", y="ms")
    rates = sorted(capacity.votes())
    for key, colour in COLOURS.items():
        dots = [(s.rate_per_s, value) for s in capacity.steps if (value := getattr(s, key)) is not None]
        medians = {r: float(np.median([ms for rate, ms in dots if rate == r])) for r in rates if r in dict(dots)}
        axis.plot(*zip(*dots, strict=True) if dots else ((), ()), "o", color=colour, markersize=4, alpha=0.5)
        axis.plot(list(medians), list(medians.values()), color=colour, linewidth=1.6, label=key.removesuffix("_ms"))
        if key in given(slos.all):
            limit = given(slos.all)[key]
            axis.axhline(limit, color=colour, linewidth=1, linestyle="--")
            axis.annotate(
                f"{key.removesuffix('_ms')} limit ",
                (1, limit),
                xycoords=("axes fraction", "data"),
                color=colour,
                fontsize=SMALL,
                ha="right",
                va="bottom",
            )
    failed = [(s.rate_per_s, s.p99_ms) for s in capacity.steps if not s.held and s.p99_ms is not None]
    if failed:
        axis.plot(*zip(*failed, strict=True), "x", color=RED, markersize=8, label="did not hold")
    if capacity.rate_per_s is not None:
        axis.axvline(capacity.rate_per_s, color=INK, linewidth=1.4)
        axis.annotate(
            f" {number(capacity.rate_per_s)} a second ",
            (capacity.rate_per_s, 0.94),
            xycoords=("data", "axes fraction"),
            color=INK,
            fontsize=SMALL,
            fontweight="bold",
            ha="right",
        )
    axis.set_xlim(left=0)
    logarithmic_ms(axis)
    legend(axis)
    return figure


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
