"""What the pictures of recommendations share: colours, photo, bars, and a PNG that is written whole or not at all."""

import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

from altreco_client import Tag
from altreco_client.images import load_rgb
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.errors import TrainingError

HIT, MISS, NEW, INK, FAINT = "#2e8b57", "#b9c4d0", "#e8890c", "#1f2933", "#7b8794"
PHOTO_PIXELS = 300
"""Longest side of a photo in a figure, at DPI about as many as it is shown with."""
DPI = 100
SMALL, MEDIUM, LARGE = 9, 10, 14
"""Font sizes: titles above axes, names of tags, title of the figure."""


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty white figure on the Agg canvas, which needs no display; inches."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def photo(axis: Axes, image: Path, title: str) -> None:
    """The picture, upright, under its title; raises InvalidImage."""
    picture = load_rgb(image)
    picture.thumbnail((PHOTO_PIXELS, PHOTO_PIXELS))
    axis.imshow(picture)
    axis.set_axis_off()
    axis.set_title(title, fontsize=SMALL, color=INK, loc="left")


def bars(axis: Axes, tags: Sequence[Tag], title: str, *, hits: Collection[str], new: Collection[str] = ()) -> None:
    """Tags in the given order, the first on top: `hits` filled with HIT, a stripe of NEW before `new`."""
    axis.set_title(title, fontsize=SMALL, color=INK, loc="left")
    axis.barh(
        range(len(tags)),
        [tag.score for tag in tags],
        color=[HIT if tag.name in hits else MISS for tag in tags],
        height=0.75,
    )
    stripes = [position for position, tag in enumerate(tags) if tag.name in new]
    axis.barh(stripes, -0.025, left=-0.01, color=NEW, height=0.75)
    for position, tag in enumerate(tags):
        axis.text(0.015, position, tag.name, va="center", fontsize=MEDIUM, color=INK)
        axis.text(1.12, position, f"{tag.score:.2f}", va="center", ha="right", fontsize=SMALL, color=FAINT)
    axis.set_xlim(-0.035, 1.15)
    axis.invert_yaxis()
    axis.set_axis_off()


def listed(intro: str, tags: Sequence[str], width: int) -> str:
    """`intro: first, second`, in lines of at most `width` characters."""
    return textwrap.fill(f"{intro}: {', '.join(tags)}", width)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG beside, then rename; raises TrainingError."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(partial, format="png")
        partial.replace(path)
    except OSError as error:
        if partial.exists():
            partial.unlink()
        raise TrainingError(f"cannot write {path}: {error}") from error
