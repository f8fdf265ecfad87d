"""Picture of hit rates: random against hashed routing, for several caches and numbers of replicas, by formulas."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from loadtest.load.workload import Pictures
from loadtest.scale.cache import expected_hit_rate, repeated_hit_rate
from measure.pictures import BLUE, GREEN, INK, ORANGE, RED, SMALL, new_figure, style

COLOURS = {1: GREEN, 10: ORANGE, 100: RED}
"""By number of replicas with random routing; with hashed routing, all caches act as one."""
TOTALS = np.geomspace(1_000, 3_000_000, 30).tolist()
"""Encodings in all caches of a cluster together."""
VIEWS = range(1, 51)


def draw_hit_rates(pictures: Pictures) -> Figure:
    """Draw the hit rates of a catalogue, and of photos that are requested a few times."""
    figure = new_figure(4.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    style(left, "Catalogue, requested again and again", x="encodings in all caches together", y="hit rate")
    style(right, "Photo, requested a few times", x="requests for the photo", y="hit rate")
    for replicas, colour in COLOURS.items():
        name = f"{replicas} replicas, random routing" if replicas > 1 else "hashed by picture, or one replica"
        expected = [expected_hit_rate(pictures, total / replicas) for total in TOTALS]
        left.plot(TOTALS, expected, color=colour, linewidth=1.6, label=name)
        right.plot(VIEWS, [repeated_hit_rate(views, replicas) for views in VIEWS], color=colour, linewidth=1.6)
    repeats = 1 - pictures.new_share
    left.axhline(repeats, color=BLUE, linewidth=1, linestyle="--", label=f"highest possible: {repeats:.0%} are repeats")
    left.set_xscale("log")
    left.xaxis.set_major_formatter(FuncFormatter(lambda total, _: f"{total:,.0f}"))
    left.set_ylim(0, 1.1 * repeats)
    right.set_ylim(0, 1)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL, labelcolor=INK)
    return figure
