"""Figures of a run: load and latency over time, distribution of latencies, breakdown, use of the machine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from loadtest.judge.breakdown import ENSEMBLE, Breakdown
from loadtest.judge.slo import GROUPS, PERCENTILES, SLOs, given
from loadtest.judge.verdict import METRICS, grouped
from loadtest.records import Records, Run
from measure.callers import percentile
from measure.markdown import number
from measure.pictures import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    SKY,
    SMALL,
    VIOLET,
    YELLOW,
    legend,
    logarithmic_ms,
    new_figure,
    style,
)

WINDOWS = 150
"""Most windows in a figure over time; a window is at least one second."""
POINTS = 400
"""Most points of a percentile curve."""
PERCENTILE_COLOURS = {50.0: GREEN, 95.0: BLUE, 99.0: ORANGE}
GROUP_COLOURS = {"all": INK, "new": BLUE, "repeat": GREEN, "cold": ORANGE}
PART_COLOURS = {
    "queue": YELLOW,
    "cache hit": GREEN,
    "cache miss": GREEN,
    "compute input": SKY,
    "infer": BLUE,
    "compute output": VIOLET,
}
NINES = {0: "0", 1: "90", 2: "99", 3: "99.9", 4: "99.99", 5: "99.999"}


def window_s(run: Run) -> float:
    """Compute the length of a window: one second, or more in a long run."""
    return float(max(1, np.ceil(run.settings.duration_s / WINDOWS)))


def over_time(run: Run, slos: SLOs) -> Figure:
    """Draw throughput and latency percentiles over time, by when requests were due."""
    width = window_s(run)
    edges = np.arange(0, max(run.settings.duration_s, width) + width / 2, width)
    figure = new_figure(5.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    records, answered = run.records, run.records.where(run.records.error < 0)
    failed = records.where(records.error >= 0)
    style(top, "Throughput", x="", y="requests per second")
    offered, served, broken = (
        np.histogram(times, edges)[0] / width for times in (records.intended_s, answered.ended_s, failed.ended_s)
    )
    top.stairs(served, edges, fill=True, color=BLUE, alpha=0.25)
    top.stairs(served, edges, color=BLUE, linewidth=1.4, label="answered", baseline=None)
    top.stairs(offered, edges, color=FAINT, linewidth=1, linestyle=":", label="due", baseline=None)
    if len(failed):
        top.stairs(broken, edges, fill=True, color=RED, label="failed")
    top.set_ylim(bottom=0)
    legend(top)
    style(bottom, "Latency", x="seconds since the start", y="ms")
    middles = edges[:-1] + width / 2
    windows = list(_windows(answered, edges))
    for label, percent, colour in _curves(windows):
        values = [percentile(window, percent) for window in windows]
        bottom.plot(middles, values, color=colour, linewidth=1.5, marker=".", markersize=3, label=label)
    for key, limit in given(slos.all).items():
        if PERCENTILES.get(key) in PERCENTILE_COLOURS:
            limit_line(bottom, METRICS[key], limit, PERCENTILE_COLOURS[PERCENTILES[key]])
    logarithmic_ms(bottom)
    legend(bottom)
    _stages(run, (top, bottom))
    bottom.set_xlim(0, edges[-1])
    return figure


def against_throughput(run: Run) -> Figure:
    """Draw latency against throughput: one dot per window of time, of the requests due in it."""
    width = window_s(run)
    edges = np.arange(0, max(run.settings.duration_s, width) + width / 2, width)
    answered = run.records.where(run.records.error < 0)
    figure = new_figure(3.2)
    axis = figure.subplots()
    style(axis, "Latency against throughput", x="answers per second in a window of time", y="ms")
    served = np.histogram(answered.ended_s, edges)[0] / width
    windows = list(_windows(answered, edges))
    for label, percent, colour in _curves(windows):
        values = [percentile(window, percent) for window in windows]
        axis.plot(served, values, "o", color=colour, markersize=5, alpha=0.6, markeredgewidth=0, label=label)
    axis.set_xlim(left=0)
    logarithmic_ms(axis)
    legend(axis)
    return figure


def distribution(run: Run, slos: SLOs) -> Figure:
    """Draw latency by percentile, each further nine equally wide; marks are the SLOs."""
    figure = new_figure(3.8)
    axis = figure.subplots()
    style(axis, "Latency by percentile", x="percentile of the answered requests", y="ms")
    most = 1.0
    for group, records in grouped(run.records).items():
        latency = np.sort(records.where(records.error < 0).latency_ms())
        if not len(latency):
            continue
        nines = -np.log10(1 - np.arange(len(latency)) / len(latency))
        most = max(most, float(nines[-1]))
        kept = _thinned(nines)
        name = f"{GROUPS[group]} ({len(latency):,})"
        axis.plot(
            nines[kept], latency[kept], color=GROUP_COLOURS[group], linewidth=1.5, label=name, drawstyle="steps-post"
        )
        for key, limit in given(slos.limits()[group]).items():
            if key in PERCENTILES:
                x = -np.log10(1 - PERCENTILES[key] / 100)
                axis.plot(x, limit, "v", color=GROUP_COLOURS[group], markersize=8, markeredgecolor=INK)
                most = max(most, x)
    axis.set_xlim(0, most + 0.1)
    ticks = {nines: label for nines, label in NINES.items() if nines <= most + 0.1} | {-np.log10(0.5): "50"}
    axis.set_xticks(list(ticks), list(ticks.values()))
    logarithmic_ms(axis)
    legend(axis)
    return figure


def where_the_time_goes(table: Breakdown) -> Figure:
    """Draw each model's parts as a stacked bar, and above them the clients' mean if that is comparable."""
    models = [model for model in table.models if model.name != ENSEMBLE]
    figure = new_figure(1.1 + 0.42 * (len(models) + 1))
    axis = figure.subplots()
    style(axis, "", x="ms per request, mean")
    bars = {model.name: [(ms, PART_COLOURS[part]) for part, ms in model.parts_ms.items()] for model in models}
    legends = {"queue": YELLOW, "cache": GREEN, "input": SKY, "infer": BLUE, "output": VIOLET}
    if not table.incomparable:
        client = [(table.client.waited_ms, RED), *(part for model in table.path for part in bars[model.name])]
        client += [(table.ensemble_ms, FAINT), (table.outside_ms, GREY)]
        bars = {"clients saw": client} | bars
        legends = {"wait in the generator": RED} | legends | {"ensemble": FAINT, "network, gRPC, client": GREY}
    longest = 1e-3
    for position, parts in enumerate(bars.values()):
        longest = max(longest, _stack(axis, position, parts))
    axis.set_yticks(range(len(bars)), list(bars), color=INK)
    axis.set_ylim(len(bars) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    for label, colour in legends.items():
        axis.barh(0, 0, color=colour, label=label)
    axis.set_xlim(0, 1.08 * longest)
    legend(axis, columns=8)
    return figure


def machine_load(run: Run, cpu_limit: float) -> Figure:
    """Draw CPU use of server and generator, pending requests, memory, and GPU use if there is one."""
    panels = {title: lines for title, lines in _panels(run).items() if lines}
    figure = new_figure(1.9 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        style(axis, title, x="seconds since the start" if axis is axes[-1] else "")
        for (label, (times, values)), colour in zip(lines.items(), (BLUE, ORANGE, GREEN, VIOLET), strict=False):
            axis.plot(times, values, color=colour, linewidth=1.4, label=label)
        if axis is axes[0]:
            axis.axhline(100 * cpu_limit, color=RED, linewidth=1, linestyle="--", label="limit of the generator")
        axis.set_ylim(0, max(1, axis.get_ylim()[1]))
        legend(axis)
    return figure


Lines = dict[str, tuple[Sequence[float], Sequence[float]]]
"""Times and values by label."""


def _panels(run: Run) -> dict[str, Lines]:
    samples = run.samples
    generator = run.settings.generator.cpu_share
    pending = sorted({name for sample in samples for name in sample["pending"]})
    gpus = range(max((len(sample["gpu"]) for sample in samples), default=0))
    return {
        "CPU, % of a core": _line("server", samples, lambda sample: _scaled(sample["cpu_share"], 100))
        | {"generator, busiest process": ([t for t, _ in generator], [100 * share for _, share in generator])},
        "Requests waiting in the server": {
            name: line
            for model in pending
            for name, line in _line(model, samples, lambda sample, model=model: sample["pending"].get(model)).items()
        },
        "Memory of the server, MiB": _line(
            "server", samples, lambda sample: _scaled(sample["memory_bytes"], 1 / 1024**2)
        ),
        "GPU, %": {
            label: line
            for i in gpus
            for label, line in _line(
                f"GPU {i}", samples, lambda s, i=i: _scaled(s["gpu"][i]["utilization"], 100)
            ).items()
        },
    }


def _line(label: str, samples: Sequence[Mapping[str, Any]], value: Callable[..., float | None]) -> Lines:
    """Make a line from the samples that have the value; empty if none does."""
    known = [(sample["t_s"], shown) for sample in samples if (shown := value(sample)) is not None]
    return {label: ([t_s for t_s, _ in known], [shown for _, shown in known])} if known else {}


def limit_line(axis: Axes, name: str, limit_ms: float, colour: str) -> None:
    """Draw a limit as a dashed line, with its name beside the axis where no curve crosses it."""
    axis.axhline(limit_ms, color=colour, linewidth=1, linestyle="--")
    axis.annotate(
        f"{name} limit",
        (1, limit_ms),
        (4, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=colour,
        fontsize=SMALL,
        va="center",
        annotation_clip=False,
    )


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _windows(records: Records, edges: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the latencies, ms, of the requests due in each window."""
    latency, place = records.latency_ms(), np.digitize(records.intended_s, edges) - 1
    for i in range(len(edges) - 1):
        yield latency[place == i]


def _stages(run: Run, axes: Sequence[Axes]) -> None:
    """Mark the start of each stage, with its name."""
    stages = list(run.settings.profile.begins())
    for begins, stage in stages if len(stages) > 1 else ():
        for axis in axes:
            axis.axvline(begins, color=FAINT, linewidth=0.8, linestyle="--")
        axes[0].annotate(
            f" {stage.name}", (begins, 0.03), xycoords=("data", "axes fraction"), fontsize=SMALL, color=FAINT
        )


def _curves(windows: Sequence[NDArray[np.float64]]) -> Iterator[tuple[str, float, str]]:
    """Yield label, percentile and colour of each curve; a percentile that is mostly the slowest request is named so."""
    usual = float(np.median([len(window) for window in windows if len(window)] or [0]))
    drawn = {percent: colour for percent, colour in PERCENTILE_COLOURS.items() if usual * (100 - percent) >= 100}
    yield from ((f"p{percent:g}", percent, colour) for percent, colour in ({50.0: GREEN} | drawn).items())
    if len(drawn) < len(PERCENTILE_COLOURS):
        yield "slowest", 100.0, VIOLET


def _thinned(nines: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose at most POINTS indices that draw the same curve, first and last included."""
    wanted = np.linspace(0, nines[-1], POINTS)
    return np.unique(np.append(np.searchsorted(nines, wanted), len(nines) - 1))


def _stack(axis: Axes, position: int, parts: Sequence[tuple[float, str]]) -> float:
    """Draw the parts (ms, colour) side by side, write their sum after the last, and return it."""
    left = 0.0
    for ms, colour in parts:
        axis.barh(position, ms, left=left, color=colour, height=0.62)
        left += ms
    axis.text(left, position, f" {number(left)}", va="center", fontsize=SMALL, color=INK)
    return left
