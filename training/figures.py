"""Shared by pictures of recommendations: the meaning of colours, photos, bars of tags."""

import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

from altreco_client import Tag
from altreco_client.images import load_rgb
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from measure.pictures import FAINT, GREEN, GREY, INK, MEDIUM, ORANGE, SMALL, save_png
from training.errors import TrainingError

HIT, MISS, NEW = GREEN, GREY, ORANGE
PHOTO_PIXELS = 300
"""Longest side of a photo in a figure, about its size on screen."""


def photo(axis: Axes, image: Path, title: str) -> None:
    """Show a photo, upright, with a title; raises InvalidImage."""
    picture = load_rgb(image)
    picture.thumbnail((PHOTO_PIXELS, PHOTO_PIXELS))
    axis.imshow(picture)
    axis.set_axis_off()
    axis.set_title(title, fontsize=SMALL, color=INK, loc="left")


def bars(axis: Axes, tags: Sequence[Tag], title: str, *, hits: Collection[str], new: Collection[str] = ()) -> None:
    """Draw tags as bars, the first on top: `hits` in the colour HIT, with a stripe of the colour NEW before `new`."""
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
    """Format `intro: first, second` in lines of at most `width` characters."""
    return textwrap.fill(f"{intro}: {', '.join(tags)}", width)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG atomically; raises TrainingError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(figure, path)
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {error}") from error
