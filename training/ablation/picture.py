"""The study's picture: new users by the length of their history and by the number of training users, and all rows."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.axes import Axes

from measure.pictures import BLUE, FAINT, GREEN, INK, ORANGE, SMALL, VIOLET, new_figure, style
from training import figures
from training.ablation.results import PRECISION, Results
from training.ablation.rows import A1, A1_HIER, A6, A6_HIER, A6_PATH, LATE, MODELS, POPULATION, TABLES, Row
from training.evaluate import NEW, SHORT, WITH, WITHOUT
from training.presets import SERVED

GROWTH = ((LATE, FAINT, "--"), (A6, BLUE, "-"), (A6_PATH, ORANGE, "-"), (A1_HIER, GREEN, "-"), (A6_HIER, VIOLET, "--"))
"""Lines of the first panel, with their colours and styles."""
LENGTHS = {"none": WITHOUT, **{str(count): name for name, count in SHORT.items()}, "all": WITH}
POPULATION_COLOURS = dict(zip(POPULATION, (ORANGE, GREEN), strict=True))
BAR_IN = 0.24
"""Height of a bar with its space, inches."""


def draw(main: Results, populations: Sequence[Results], path: Path) -> None:
    """Write the PNG; raises TrainingError."""
    everything = {"Models": tuple(row for row in MODELS if row != A1), **TABLES}
    tables = {title: rows for title, of in everything.items() if (rows := tuple(filter(main.has, of)))}
    heights = [len(rows) + 1.2 for rows in tables.values()]
    figure = new_figure(4.0 + BAR_IN * sum(heights), 11)
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.1)
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[4.0, BAR_IN * sum(heights)])
    left, right = above.subplots(1, 2)
    group = NEW if NEW in main.groups else ""
    _growth(left, main, group)
    _population(right, populations)
    panels = below.subplots(len(tables), 1, sharex=True, height_ratios=heights)
    for axis, (title, rows) in zip(panels, tables.items(), strict=True):
        _bars(axis, title, rows, main, group)
    bars = "bars: new users, circles: known users" if group else "bars: known users"
    panels[-1].set_xlabel(f"{PRECISION} ({bars}, dots: seeds; green: what is served)", fontsize=SMALL, color=FAINT)
    figures.save(figure, path)


def _growth(axis: Axes, main: Results, group: str) -> None:
    users = "New" if group else "Known"
    style(axis, f"{users} users: {PRECISION}", x="past pictures in the history")
    for row, colour, line in GROWTH:
        values = [mean(main.values(row, history=history, group=group)) for history in LENGTHS.values()]
        axis.plot(range(len(LENGTHS)), values, line, color=colour, marker="o", markersize=3, label=row.label)
    axis.set_xticks(range(len(LENGTHS)), list(LENGTHS))
    axis.legend(frameon=False, fontsize=SMALL, labelcolor=INK)


def _population(axis: Axes, populations: Sequence[Results]) -> None:
    style(axis, f"More training users, {PRECISION} of new users", x="data set")
    names = [Path(results.study.data).name for results in populations]
    for row, colour in POPULATION_COLOURS.items():
        for label, history, line in (("all pictures", WITH, "-"), ("1 picture", "1 picture", "--")):
            values = [mean(results.values(row, history=history, group=NEW)) for results in populations]
            axis.plot(names, values, line, color=colour, marker="o", markersize=3, label=f"{row.label}, {label}")
    if not populations:
        axis.text(0.5, 0.5, "not measured yet", transform=axis.transAxes, ha="center", color=FAINT)
    else:
        axis.legend(frameon=False, fontsize=SMALL, labelcolor=INK)


def _bars(axis: Axes, title: str, rows: Sequence[Row], main: Results, group: str) -> None:
    """A bar for each row with its seeds as dots; known users as circles."""
    values = [main.values(row, group=group) for row in rows]
    best = max(map(mean, values))
    for place, (row, of_seeds) in enumerate(zip(rows, values, strict=True)):
        served = row.run == SERVED and row.result is None
        axis.barh(place, mean(of_seeds), color=figures.HIT if served else figures.MISS, height=0.7)
        axis.plot(of_seeds, [place] * len(of_seeds), "o", markersize=2.5, color=INK, alpha=0.7)
        if group:
            axis.plot(mean(main.values(row)), place, "o", markersize=6, markerfacecolor="none", color=FAINT)
        weight = "bold" if mean(of_seeds) == best else "normal"
        axis.text(1.0, place, f"{mean(of_seeds):.3f}", va="center", ha="right", fontsize=SMALL, fontweight=weight)
    axis.set_yticks(np.arange(len(rows)), [row.label for row in rows], fontsize=SMALL)
    axis.set_xlim(0, 1)
    axis.set_title(title, loc="left", fontsize=SMALL, color=INK, fontweight="bold")
    axis.invert_yaxis()
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
