"""Pictures of a run: load and latency over time, the distribution of latencies, where the time goes, the machine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from loadtest.breakdown_table import ENSEMBLE, Breakdown
from loadtest.records import Records, Run
from loadtest.slo import GROUPS, PERCENTILES, SLOs, given
from loadtest.verdict import grouped
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
"""In a picture over time at most; a window is a second in shorter runs."""
POINTS = 400
"""Of a percentile curve."""
PERCENTILE_COLOURS = {50.0: GREEN, 95.0: BLUE, 99.0: ORANGE}
GROUP_COLOURS = {"all": INK, "new": BLUE, "repeat": GREEN, "cold": ORANGE}
PART_COLOURS = {
    "queue": YELLOW,
    "cache, found": GREEN,
    "cache, not found": GREEN,
    "compute input": SKY,
    "infer": BLUE,
    "compute output": VIOLET,
}
NINES = {0: "0", 1: "90", 2: "99", 3: "99.9", 4: "99.99", 5: "99.999"}


def window_s(run: Run) -> float:
    """Seconds of a window over time: one, or more where the run is long."""
    return float(max(1, np.ceil(run.settings.duration_s / WINDOWS)))


def over_time(run: Run, slos: SLOs) -> Figure:
    """Requests asked for, answered, failed; and percentiles, by when the requests should have left."""
    width = window_s(run)
    edges = np.arange(0, max(run.settings.duration_s, width) + width / 2, width)
    figure = new_figure(5.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    records, answered = run.records, run.records.where(run.records.error < 0)
    failed = records.where(records.error >= 0)
    style(top, "Throughput", x="", y="requests a second")
    offered, served, broken = (
        np.histogram(times, edges)[0] / width for times in (records.intended_s, answered.ended_s, failed.ended_s)
    )
    top.stairs(served, edges, fill=True, color=BLUE, alpha=0.25)
    top.stairs(served, edges, color=BLUE, linewidth=1.4, label="answered", baseline=None)
    top.stairs(offered, edges, color=FAINT, linewidth=1, linestyle=":", label="asked for", baseline=None)
    if len(failed):
        top.stairs(broken, edges, fill=True, color=RED, label="failed")
    top.set_ylim(bottom=0)
    legend(top)
    style(bottom, "Latency", x="seconds since the start", y="ms")
    middles = edges[:-1] + width / 2
    for percent, colour in PERCENTILE_COLOURS.items():
        values = [percentile(window, percent) for window in _windows(answered, edges)]
        bottom.plot(middles, values, color=colour, linewidth=1.5, marker=".", markersize=3, label=f"p{percent:g}")
    _limits(bottom, slos, edges[-1])
    logarithmic_ms(bottom)
    legend(bottom)
    _stages(run, (top, bottom))
    bottom.set_xlim(0, edges[-1])
    return figure


def against_throughput(run: Run) -> Figure:
    """Latency against throughput: a window of time is a dot, p50 and p99 of what should have left in it."""
    width = window_s(run)
    edges = np.arange(0, max(run.settings.duration_s, width) + width / 2, width)
    answered = run.records.where(run.records.error < 0)
    figure = new_figure(3.2)
    axis = figure.subplots()
    style(axis, "Latency against throughput", x="requests answered a second, in a window of time", y="ms")
    served = np.histogram(answered.ended_s, edges)[0] / width
    for percent in (50.0, 99.0):
        values = [percentile(window, percent) for window in _windows(answered, edges)]
        colour = PERCENTILE_COLOURS[percent]
        axis.plot(served, values, "o", color=colour, markersize=5, alpha=0.6, markeredgewidth=0, label=f"p{percent:g}")
    axis.set_xlim(left=0)
    logarithmic_ms(axis)
    legend(axis)
    return figure


def distribution(run: Run, slos: SLOs) -> Figure:
    """Latency at every percentile, each further nine as wide as the one before; marks are the SLOs."""
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
    """The clients' mean as one bar, stacked; below it the models, each by its own parts, to the same scale."""
    models = [model for model in table.models if model.name != ENSEMBLE]
    figure = new_figure(1.1 + 0.42 * (len(models) + 1))
    axis = figure.subplots()
    style(axis, "", x="ms a request, mean")
    client = {"late to send": (table.client.waited_ms, RED)}
    client |= {
        f"{model.name}: {part}": (ms, PART_COLOURS[part]) for model in table.path for part, ms in model.parts_ms.items()
    }
    client |= {"ensemble": (table.ensemble_ms, FAINT), "outside": (table.outside_ms, GREY)}
    _stack(axis, 0, client)
    for position, model in enumerate(models, start=1):
        _stack(axis, position, {part: (ms, PART_COLOURS[part]) for part, ms in model.parts_ms.items()})
    axis.set_yticks(range(len(models) + 1), ["clients saw", *(model.name for model in models)], color=INK)
    axis.set_ylim(len(models) + 0.6, -0.6)
    axis.grid(visible=False, axis="y")
    legends = {"queue": YELLOW, "cache": GREEN, "input": SKY, "infer": BLUE, "output": VIOLET}
    legends |= {"ensemble": FAINT, "network, gRPC, client": GREY}
    for label, colour in ({"late to send": RED} | legends).items():
        axis.barh(0, 0, color=colour, label=label)
    axis.set_xlim(0, 1.08 * max(table.client.mean_ms, *(model.total_ms for model in table.models), 1e-3))
    legend(axis, columns=8)
    return figure


def machine_load(run: Run, cpu_limit: float) -> Figure:
    """CPU of server and generator, requests in the server's queues, memory, and the GPU where there is one."""
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
"""Label to times and values."""


def _panels(run: Run) -> dict[str, Lines]:
    samples = run.samples
    generator = run.settings.generator.cpu_share
    pending = sorted({name for sample in samples for name in sample["pending"]})
    gpus = range(max((len(sample["gpu"]) for sample in samples), default=0))
    return {
        "CPU, % of a core": _line("server", samples, lambda sample: _scaled(sample["cpu_share"], 100))
        | {"generator, a process": ([t for t, _ in generator], [100 * share for _, share in generator])},
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
    """Without the samples that do not have it; none at all where no sample does."""
    known = [(sample["t_s"], shown) for sample in samples if (shown := value(sample)) is not None]
    return {label: ([t_s for t_s, _ in known], [shown for _, shown in known])} if known else {}


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _windows(records: Records, edges: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Latencies, ms, of the requests that should have left in each window."""
    latency, place = records.latency_ms(), np.digitize(records.intended_s, edges) - 1
    for i in range(len(edges) - 1):
        yield latency[place == i]


def _stages(run: Run, axes: Sequence[Axes]) -> None:
    """Where each begins, with its name at the top."""
    stages = list(run.settings.profile.begins())
    for begins, stage in stages if len(stages) > 1 else ():
        for axis in axes:
            axis.axvline(begins, color=FAINT, linewidth=0.8, linestyle="--")
        axes[0].annotate(
            f" {stage.name}", (begins, 0.03), xycoords=("data", "axes fraction"), fontsize=SMALL, color=FAINT
        )


def _limits(axis: Axes, slos: SLOs, right: float) -> None:
    """The limits of all requests as dashed lines in the percentiles' colours."""
    for key, limit in given(slos.all).items():
        if (percent := PERCENTILES.get(key)) in PERCENTILE_COLOURS:
            colour = PERCENTILE_COLOURS[percent]
            axis.axhline(limit, color=colour, linewidth=1, linestyle="--")
            axis.text(right, limit, f"p{percent:g} limit ", color=colour, fontsize=SMALL, ha="right", va="bottom")


def _thinned(nines: NDArray[np.float64]) -> NDArray[np.int64]:
    """At most some hundred points that look the same as all of them, first and last included."""
    wanted = np.linspace(0, nines[-1], POINTS)
    return np.unique(np.append(np.searchsorted(nines, wanted), len(nines) - 1))


def _stack(axis: Axes, position: int, parts: Mapping[str, tuple[float, str]]) -> None:
    """Side by side, and their sum after the last."""
    left = 0.0
    for ms, colour in parts.values():
        axis.barh(position, max(ms, 0), left=left, color=colour, height=0.62)
        left += max(ms, 0)
    axis.text(left, position, f" {number(left)}", va="center", fontsize=SMALL, color=INK)
