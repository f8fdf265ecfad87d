"""Shared by all charts: palette, figures without a display, PNG, and SVG for pages in light and dark mode."""

import io
import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from measure.files import write_bytes
from measure.markdown import number

mpl.rcParams["text.parse_math"] = False  # a tag with two dollar signs is no formula, and few would be a valid one

INK, FAINT, GRID = "#1f2933", "#66727f", "#d9dfe5"
GREEN, BLUE, ORANGE, RED = "#2e8b57", "#2f6fb3", "#d9730d", "#c0392b"
YELLOW, SKY, VIOLET, GREY = "#e0a80b", "#8fb8de", "#6b5bb5", "#b9c4d0"
VARIABLES = {
    INK: "ink",
    FAINT: "faint",
    GRID: "grid",
    GREEN: "green",
    BLUE: "blue",
    ORANGE: "orange",
    RED: "red",
    YELLOW: "yellow",
    SKY: "sky",
    VIOLET: "violet",
    GREY: "grey",
}
"""CSS variable that replaces each colour in an SVG."""

DPI = 110
SMALL, MEDIUM, LARGE = 9, 10, 14
"""Font sizes of labels, axes' titles and figure titles."""
WIDTH_IN = 9.6


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Create an empty figure on a canvas that needs no display."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    return figure


def style(axis: Axes, title: str, *, x: str, y: str = "") -> None:
    """Style axes: title on the left, thin grid lines, no frame."""
    axis.set_title(title, loc="left", fontsize=MEDIUM, color=INK, fontweight="bold")
    axis.set_xlabel(x, fontsize=SMALL, color=FAINT)
    axis.set_ylabel(y, fontsize=SMALL, color=FAINT)
    axis.set_facecolor("none")
    axis.grid(color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(GRID)
    axis.tick_params(which="both", colors=FAINT, labelsize=SMALL, length=0)


def logarithmic_ms(axis: Axes) -> None:
    """Make the y axis logarithmic, with ticks at 1, 2, 5, 10, ... ms; an axis without data is left as it is."""
    if axis.dataLim.minposy == float("inf"):
        return
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.yaxis.set_minor_formatter(NullFormatter())


def legend(axis: Axes, columns: int = 4) -> None:
    """Put the legend above the axes, on the right; none if nothing has a label."""
    lines, labels = axis.get_legend_handles_labels()
    if not lines:
        return
    axis.legend(
        lines,
        labels,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        borderaxespad=0.1,
        handlelength=1.4,
        columnspacing=1.2,
    )


def to_svg(figure: Figure) -> str:
    """Render an <svg> element for a page that defines VARIABLES; text stays text."""
    content = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "altreco"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    return re.sub("|".join(VARIABLES), lambda found: f"var(--{VARIABLES[found[0]]})", svg)


def save_png(figure: Figure, path: Path) -> None:
    """Write a PNG on white, atomically; raises OSError."""
    content = io.BytesIO()
    figure.savefig(content, format="png", facecolor="white")
    write_bytes(path, content.getvalue())
