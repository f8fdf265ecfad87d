"""A dashboard's panels with matplotlib: series, single values, tables; where they are and in which unit, by JSON."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from deploy.monitoring.dashboard import Panel, Target
from measure.pictures import BLUE, FAINT, GREEN, GREY, GRID, INK, ORANGE, RED, SKY, VIOLET, YELLOW

COLOURS = {"green": GREEN, "red": RED, "orange": ORANGE, "blue": BLUE, "purple": VIOLET, "yellow": YELLOW}
CYCLE = (BLUE, ORANGE, GREEN, VIOLET, YELLOW, SKY, RED, GREY)
TITLE = "Tag recommender"
NOTE = (
    "drawn by deploy/monitoring/picture.py from the dashboard's JSON and a real Prometheus over a real load "
    "(2 cores, CPU, shared with other work); Grafana was not run here"
)
COLUMNS, COLUMN_IN, LINE_IN, TOP_IN, DPI = 24, 0.62, 0.36, 0.6, 100
PAD_IN = 0.06
Series = list[dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """A panel, and for each of its queries the series that Prometheus gave."""

    panel: Panel
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Line:
    """Seconds since the start of the picture, and values; NaN where there are none."""

    label: str
    times: np.ndarray
    values: np.ndarray


def draw(answers: Sequence[Answer]) -> Figure:
    """All panels on one page."""
    lines = max(answer.panel.y + answer.panel.height for answer in answers)
    width, height = COLUMNS * COLUMN_IN, lines * LINE_IN + TOP_IN
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.008, 1 - 0.22 / height, TITLE, fontsize=15, fontweight="bold", color=INK, va="center")
    figure.text(0.992, 1 - 0.22 / height, NOTE, fontsize=9.5, color=FAINT, va="center", ha="right")
    start_s = min(_starts(answers))
    for answer in answers:
        panel = answer.panel
        left, top = panel.x * COLUMN_IN, TOP_IN + panel.y * LINE_IN
        box = (left, height - top - panel.height * LINE_IN, panel.width * COLUMN_IN, panel.height * LINE_IN)
        if panel.kind == "row":
            figure.text(left / width + 0.008, (box[1] + LINE_IN / 2) / height, panel.title, **_ROW)
        else:
            _panel(figure, answer, box, (width, height), start_s)
    return figure


_ROW: dict[str, Any] = {"fontsize": 12, "fontweight": "bold", "color": INK, "va": "center"}


def _starts(answers: Sequence[Answer]) -> list[float]:
    return [series["values"][0][0] for answer in answers for query in answer.series for series in query]


def _panel(figure: Figure, answer: Answer, box: tuple[float, ...], size: tuple[float, float], start_s: float) -> None:
    left, bottom, wide, high = box
    width, height = size
    frame = FancyBboxPatch(
        ((left + PAD_IN) / width, (bottom + PAD_IN) / height),
        (wide - 2 * PAD_IN) / width,
        (high - 2 * PAD_IN) / height,
        boxstyle="square,pad=0",
        transform=figure.transFigure,
        facecolor="white",
        edgecolor=GRID,
        zorder=-1,
    )
    figure.add_artist(frame)
    figure.text(
        (left + 0.16) / width,
        (bottom + high - 0.22) / height,
        answer.panel.title,
        fontsize=10,
        fontweight="bold",
        color=INK,
        va="center",
    )
    margins = (0.75, 0.72, 0.2, 0.45) if answer.panel.kind == "timeseries" else (0.2, 0.12, 0.2, 0.42)
    axis = figure.add_axes(
        (
            (left + margins[0]) / width,
            (bottom + margins[1]) / height,
            (wide - margins[0] - margins[2]) / width,
            (high - margins[1] - margins[3]) / height,
        )
    )
    {"timeseries": _time_series, "stat": _stat, "table": _table}[answer.panel.kind](axis, answer, start_s)


def _lines(answer: Answer, start_s: float) -> list[Line]:
    lines = []
    for target, query in zip(answer.panel.targets, answer.series, strict=True):
        for series in query:
            times, values = np.array(series["values"], dtype=float).T
            lines.append(Line(_legend(target, series["metric"]), times - start_s, values))
    return lines


def _legend(target: Target, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target.legend)


def _time_series(axis: Axes, answer: Answer, start_s: float) -> None:
    panel, lines = answer.panel, _lines(answer, start_s)
    axis.set_facecolor("none")
    axis.grid(color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axis.tick_params(colors=FAINT, labelsize=8.5, length=0)
    if not any(np.isfinite(line.values).any() for line in lines):
        axis.text(0.5, 0.5, "No data", transform=axis.transAxes, ha="center", color=FAINT, fontsize=12)
        axis.set_xticks([])
        axis.set_yticks([])
        return
    if panel.stacked:
        _stack(axis, panel, lines)
    else:
        for number, line in enumerate(lines):
            colour, dashed = _style(panel, line.label, number)
            axis.plot(line.times, line.values, color=colour, linestyle="--" if dashed else "-", label=line.label)
    for colour, level in _levels(panel):
        if level < axis.get_ylim()[1]:
            axis.axhline(level, color=colour, linestyle="--", linewidth=1)
    _axes(axis, panel)
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles, labels, loc="upper left", bbox_to_anchor=(-0.05, -0.13), **_LEGEND)


_LEGEND: dict[str, Any] = {
    "ncols": 6,
    "frameon": False,
    "fontsize": 8.5,
    "labelcolor": INK,
    "handlelength": 1.2,
    "columnspacing": 1.2,
}


def _stack(axis: Axes, panel: Panel, lines: list[Line]) -> None:
    times = np.unique(np.concatenate([line.times for line in lines]))
    rows = [np.nan_to_num(np.interp(times, line.times, line.values, left=0, right=0)) for line in lines]
    colours = [_style(panel, line.label, number)[0] for number, line in enumerate(lines)]
    axis.stackplot(times, rows, colors=colours, alpha=0.75, labels=[line.label for line in lines])


def _axes(axis: Axes, panel: Panel) -> None:
    defaults = panel.json["fieldConfig"]["defaults"]
    axis.set_ylim(bottom=defaults.get("min"), top=defaults.get("max"))
    if axis.get_ylim()[1] <= axis.get_ylim()[0] + 1e-12 or axis.get_ylim()[1] < 1e-6:
        axis.set_ylim(top=1)
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value, panel.unit)))
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 3, 6, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} s"))
    axis.margins(x=0)


def _style(panel: Panel, label: str, number: int) -> tuple[str, bool]:
    """Colour, and whether it is dashed, by the panel's overrides."""
    colour, dashed = CYCLE[number % len(CYCLE)], False
    for override in panel.json["fieldConfig"]["overrides"]:
        options = override["matcher"]["options"]
        if label == options or (options.startswith("/") and re.search(options.strip("/"), label)):
            for one in override["properties"]:
                colour = COLOURS[one["value"]["fixedColor"]] if one["id"] == "color" else colour
                dashed = dashed or one["id"] == "custom.lineStyle"
    return colour, dashed


def _levels(panel: Panel) -> list[tuple[str, float]]:
    """Thresholds that the panel draws as lines."""
    defaults = panel.json["fieldConfig"]["defaults"]
    if "thresholdsStyle" not in defaults["custom"]:
        return []
    return [(COLOURS[s["color"]], s["value"]) for s in defaults["thresholds"]["steps"] if s["value"] is not None]


def _stat(axis: Axes, answer: Answer, start_s: float) -> None:
    axis.axis("off")
    lines = _lines(answer, start_s)
    value = float(lines[0].values[-1]) if lines else math.nan
    steps = answer.panel.json["fieldConfig"]["defaults"]["thresholds"]["steps"]
    passed = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    shown = text(value, answer.panel.unit) if math.isfinite(value) else "No data"
    axis.text(0.5, 0.45, shown, ha="center", va="center", fontsize=22, fontweight="bold", color=COLOURS[passed[-1]])


def _table(axis: Axes, answer: Answer, _: float) -> None:
    axis.axis("off")
    (query,) = answer.series
    last_s = max((series["values"][-1][0] for series in query), default=0.0)
    rows = [series["metric"] for series in query if series["values"][-1][0] == last_s]
    names = ["alertname", "alertstate", "severity"]
    for number, row in enumerate([dict(zip(names, names, strict=True)), *rows[:7]]):
        for x, name in zip((0.0, 0.68, 0.88), names, strict=True):
            axis.text(x, 0.95 - number * 0.13, row[name], fontsize=8.5, color=FAINT if number == 0 else INK, va="top")


def text(value: float, unit: str) -> str:
    """As Grafana writes a value of the unit."""
    if unit == "s":
        return f"{value:.3g} s" if abs(value) >= 1 else f"{value * 1000:.3g} ms"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    return f"{value:.3g}" + {"reqps": " req/s", "ops": " /s"}.get(unit, "")
