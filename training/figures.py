"""Shared by pictures of recommendations: the meaning of colours, photos, bars of tags."""

import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

from altreco_client import Reason, Tag
from altreco_client.images import load_rgb
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from measure.pictures import FAINT, GREEN, GREY, INK, MEDIUM, ORANGE, SMALL, save_png
from training.errors import TrainingError

HIT, MISS, NEW = GREEN, GREY, ORANGE
PALE = 0.4
"""Opacity of the part of a bar that comes from the history."""
SHADES = "full colour: the picture alone; pale: what the history adds; line: what it takes away"
REASONS = "in brackets: the score for the picture alone, and the factor by which the history multiplies its odds"
NAMES = 0.62
"""Width of the names on the left of the bars, whose axis goes from 0 to 1."""
LONGEST = 15
"""Characters of a name that fit there."""
PHOTO_PIXELS = 300
"""Longest side of a photo in a figure, about its size on screen."""


def photo(axis: Axes, image: Path | bytes, title: str) -> None:
    """Show a photo, upright, with a title; raises InvalidImage."""
    picture = load_rgb(image)
    picture.thumbnail((PHOTO_PIXELS, PHOTO_PIXELS))
    axis.imshow(picture)
    axis.set_axis_off()
    axis.set_title(title, fontsize=SMALL, color=INK, loc="left")


def bars(axis: Axes, tags: Sequence[Tag], title: str, *, hits: Collection[str], new: Collection[str] = ()) -> None:
    """Tags in the given order, the first on top: `hits` in the colour HIT, a stripe of NEW before `new`."""
    _frame(axis, tags, title, hits, ends=[tag.score for tag in tags])
    axis.barh(range(len(tags)), [tag.score for tag in tags], color=_colours(tags, hits), height=0.75)
    stripes = [place for place, tag in enumerate(tags) if tag.name in new]
    axis.barh(stripes, -0.025, left=-0.01, color=NEW, height=0.75)


def reasons(axis: Axes, given: Sequence[Reason], title: str, *, hits: Collection[str]) -> None:
    """The same for tags with their reasons, as SHADES says."""
    tags = [each.tag for each in given]
    scores, alone = [tag.score for tag in tags], [each.picture for each in given]
    _frame(axis, tags, title, hits, ends=list(map(max, scores, alone)))
    colours, places = _colours(tags, hits), range(len(tags))
    axis.barh(places, scores, color=colours, alpha=PALE, height=0.75)
    axis.barh(places, list(map(min, scores, alone)), color=colours, height=0.75)
    for place, score, picture in zip(places, scores, alone, strict=True):
        if picture > score:
            axis.plot([score, picture], [place, place], color=FAINT, linewidth=1, zorder=0)


def reason(given: Reason, hits: Collection[str]) -> str:
    """The same as text: `sea* 0.90 (0.31 x20)`."""
    factor = f"{given.history:,.0f}" if given.history >= 10 else f"{given.history:.2g}"
    return (
        f"{given.tag.name}{'*' if given.tag.name in hits else ''} {given.tag.score:.2f} ({given.picture:.2f} x{factor})"
    )


def _frame(axis: Axes, tags: Sequence[Tag], title: str, hits: Collection[str], ends: Sequence[float]) -> None:
    """Names on the left, scores behind the ends of the bars; hits in bold."""
    axis.set_title(title, fontsize=SMALL, color=INK, loc="left")
    for place, (tag, end) in enumerate(zip(tags, ends, strict=True)):
        weight = "bold" if tag.name in hits else "normal"
        name = tag.name if len(tag.name) <= LONGEST else f"{tag.name[: LONGEST - 3]}..."
        axis.text(-0.05, place, name, va="center", ha="right", fontsize=MEDIUM, color=INK, fontweight=weight)
        axis.text(end + 0.03, place, f"{tag.score:.2f}", va="center", fontsize=SMALL, color=INK)
    axis.set_xlim(-NAMES, 1.2)
    axis.invert_yaxis()
    axis.set_axis_off()


def _colours(tags: Sequence[Tag], hits: Collection[str]) -> list[str]:
    return [HIT if tag.name in hits else MISS for tag in tags]


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
