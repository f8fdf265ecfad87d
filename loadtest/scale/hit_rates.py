"""Random against hashed spreading: a cluster's hit rate for several caches and numbers of replicas, by formulas."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from loadtest.load.workload import Pictures
from loadtest.scale.cache import expected_hit_rate, repeated_hit_rate
from loadtest.scale.sizing import CACHED_BYTES
from measure.markdown import Table, number
from measure.pictures import BLUE, GREEN, INK, ORANGE, RED, SMALL, new_figure, style

REPLICAS = (1, 10, 100)
TOTALS = (1_000, 3_000, 10_000, 30_000, 100_000)
"""Encodings in all caches of a cluster together."""
VIEWS = (2, 3, 5, 10, 50)
DRAWN_TOTALS = np.geomspace(TOTALS[0], 3_000_000, 30).tolist()
DRAWN_VIEWS = range(1, 51)
COLOURS = {1: INK, 10: ORANGE, 100: RED}


def catalogue_table(pictures: Pictures) -> Table:
    """Hit rates of a catalogue that is asked for again and again; hashed, all caches are as one."""
    many = REPLICAS[1:]
    heads = ["encodings in all caches together", "MiB", "hashed, or one replica", *map(_name, many)]
    lines = []
    for total in TOTALS:
        rates = [expected_hit_rate(pictures, total / count) for count in (1, *many)]
        lines.append([f"{total:,}", number(total * CACHED_BYTES / 2**20), *(f"{rate:.3f}" for rate in rates)])
    return heads, lines


def views_table() -> Table:
    """Hit rates of pictures that are asked for a few times and never again, with caches that are large enough."""
    many = REPLICAS[1:]
    heads = ["times that a picture is asked for", "hashed, or one replica", *map(_name, many)]
    rates = [(views, [repeated_hit_rate(views, count) for count in REPLICAS]) for views in VIEWS]
    return heads, [[str(views), *(f"{rate:.3f}" for rate in values)] for views, values in rates]


def draw_hit_rates(pictures: Pictures) -> Figure:
    """Draw hit rates of a catalogue, and of photos that are asked for a few times."""
    figure = new_figure(4.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    style(left, "A catalogue, asked for again and again", x="encodings in all caches together", y="hit rate")
    expected = [expected_hit_rate(pictures, total) for total in DRAWN_TOTALS]
    _line(left, DRAWN_TOTALS, expected, GREEN, "hashed by picture")
    for count in REPLICAS[1:]:
        expected = [expected_hit_rate(pictures, total / count) for total in DRAWN_TOTALS]
        _line(left, DRAWN_TOTALS, expected, COLOURS[count], _name(count))
    left.axhline(1 - pictures.new_share, color=BLUE, linewidth=1, linestyle="--", label="all but new pictures")
    left.set_xscale("log")
    style(right, "A photo and its few edits", x="times that a picture is asked for")
    for count in REPLICAS:
        rates = [repeated_hit_rate(views, count) for views in DRAWN_VIEWS]
        _line(right, DRAWN_VIEWS, rates, COLOURS[count] if count > 1 else GREEN, "")
    left.set_ylim(bottom=0)
    right.set_ylim(0, 1)
    left.xaxis.set_major_formatter(FuncFormatter(lambda total, _: f"{total:,.0f}"))
    # The panels share their colours, and the titles leave no room above.
    left.legend(loc="lower right", frameon=False, fontsize=SMALL, labelcolor=INK)
    return figure


def _line(axis: Axes, x: Sequence[float], y: Sequence[float], colour: str, label: str) -> None:
    axis.plot(x, y, color=colour, linewidth=1.6, label=label)


def _name(replicas: int) -> str:
    return f"{replicas} replicas, at random"
