"""Random against hashed spreading, simulated: a cluster's hit rate for several caches and numbers of replicas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from loadtest.scale.cache import Simulated, at_random, draw, expected_hit_rate, hashed, repeated_hit_rate, simulate
from loadtest.scale.sizing import CACHED_BYTES
from loadtest.workload import Pictures, Workload
from measure.markdown import Table, number
from measure.pictures import BLUE, GREEN, INK, ORANGE, RED, SMALL, new_figure, style

REPLICAS = (1, 10, 100)
TOTALS = (1_000, 3_000, 10_000, 30_000, 100_000)
"""Encodings in all caches of a cluster together."""
REQUESTS_AN_ENCODING = 4
"""That are simulated at least: with fewer, half of them would not fill the caches."""
VIEWS = (2, 3, 5, 10, 50)
DRAWN_TOTALS = np.geomspace(TOTALS[0], 3_000_000, 30).tolist()
DRAWN_VIEWS = range(1, 51)
COLOURS = {1: INK, 10: ORANGE, 100: RED}
MARKERS = {1: "o", 10: "s", 100: "D"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A cluster: its replicas, whether requests are hashed by picture, and all its caches together, in encodings."""

    replicas: int
    hashed: bool
    total: int

    def expected(self, pictures: Pictures) -> float:
        """Its hit rate by Che's approximation: hashed, all caches are as one."""
        return expected_hit_rate(pictures, self.total / (1 if self.hashed else self.replicas))


def cases(requests: int) -> list[Case]:
    """Those that so many requests can tell of; with one replica there is nothing to hash."""
    return [
        Case(replicas=replicas, hashed=by_picture, total=total)
        for total in TOTALS
        if total * REQUESTS_AN_ENCODING <= requests
        for replicas in REPLICAS
        for by_picture in ((False,) if replicas == 1 else (False, True))
    ]


def run_study(workload: Workload, requests: int) -> dict[Case, Simulated]:
    """Simulate each with the same requests; half of them fill the caches."""
    rng = np.random.default_rng(workload.seed)
    asked = draw(workload.pictures, requests, rng)
    spread = {
        (replicas, by_picture): (hashed if by_picture else at_random)(asked, replicas, rng)
        for replicas in REPLICAS
        for by_picture in (False, True)
    }
    return {
        case: simulate(asked, spread[case.replicas, case.hashed], case.total // case.replicas)
        for case in cases(requests)
    }


def study_table(study: dict[Case, Simulated], pictures: Pictures) -> Table:
    """Hit rates: simulated, and in brackets by the formula."""
    columns = sorted({(case.replicas, case.hashed) for case in study})
    heads = ["encodings in all caches together", "MiB", *(_name(*column) for column in columns)]
    lines = []
    for total in sorted({case.total for case in study}):
        line = [f"{total:,}", number(total * CACHED_BYTES / 2**20)]
        for replicas, by_picture in columns:
            case = Case(replicas=replicas, hashed=by_picture, total=total)
            line.append(f"{study[case].hit_rate:.3f} ({case.expected(pictures):.3f})")
        lines.append(line)
    return heads, lines


def busiest_table(study: dict[Case, Simulated]) -> Table:
    """How uneven the load is, with the largest caches."""
    largest = max(case.total for case in study)
    lines = [
        [_name(case.replicas, case.hashed), f"{found.busiest_requests:.2f}", f"{found.busiest_misses:.2f}"]
        for case, found in study.items()
        if case.total == largest and case.replicas > 1
    ]
    return [f"{largest:,} encodings", "requests", "pictures to encode"], lines


def views_table() -> Table:
    """Hit rates of pictures that are asked for a few times and never again, caches without end."""
    many = REPLICAS[1:]
    heads = ["times that a picture is asked for", "hashed, or one replica", *(_name(count, False) for count in many)]
    rates = [(views, [repeated_hit_rate(views, count) for count in REPLICAS]) for views in VIEWS]
    return heads, [[str(views), *(f"{rate:.3f}" for rate in values)] for views, values in rates]


def draw_study(study: dict[Case, Simulated], pictures: Pictures) -> Figure:
    """Lines are the formulas, dots were simulated."""
    figure = new_figure(4.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    style(left, "A catalogue, asked for again and again", x="encodings in all caches together", y="hit rate")
    _line(
        left, DRAWN_TOTALS, [expected_hit_rate(pictures, total) for total in DRAWN_TOTALS], GREEN, "hashed by picture"
    )
    for count in REPLICAS[1:]:
        expected = [expected_hit_rate(pictures, total / count) for total in DRAWN_TOTALS]
        _line(left, DRAWN_TOTALS, expected, COLOURS[count], _name(count, False))
    for case, found in study.items():
        colour = GREEN if case.hashed else COLOURS[case.replicas]
        left.plot(case.total, found.hit_rate, MARKERS[case.replicas], color=colour, markersize=4.5, alpha=0.75)
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


def _name(replicas: int, by_picture: bool) -> str:
    if replicas == 1:
        return "1 replica"
    return f"{replicas} replicas, {'hashed' if by_picture else 'at random'}"
