"""The recommendations as a picture."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from demo.recommend import Answer, Row

HIT, MISS, INK, FAINT = "#2e8b57", "#b9c4d0", "#1f2933", "#7b8794"
HISTORY_SHOWN = 6
LINE = 44
"""Characters that fit above a column."""


def write_contact_sheet(rows: Sequence[Row], path: Path) -> None:
    """One line a picture: the photo with its owner's tags, then the answers; green: a tag that the owner gave."""
    mpl.use("agg")
    figure = Figure(figsize=(15, 2.75 * len(rows) + 0.9), dpi=100, layout="constrained", facecolor="white")
    figure.suptitle(
        "The same photo, three users: recommended tags with their scores (green: a tag that the owner gave)",
        fontsize=14,
        color=INK,
    )
    axes = figure.subplots(len(rows), 4, squeeze=False, width_ratios=[1.15, 1, 1, 1])
    for line, row in zip(axes, rows, strict=True):
        _photo(line[0], row)
        for axis, answer in zip(line[1:], row.answers, strict=True):
            _bars(axis, answer, set(row.own_tags))
    partial = path.with_suffix(".partial.png")
    figure.savefig(partial)
    partial.replace(path)


def _photo(axis: Axes, row: Row) -> None:
    with Image.open(row.image) as image:
        axis.imshow(image)
    axis.set_axis_off()
    axis.set_title(_listed("own tags", row.own_tags), fontsize=9, color=INK, loc="left")


def _bars(axis: Axes, answer: Answer, own_tags: set[str]) -> None:
    """Tags best first, the longest bar on top."""
    history = _listed("often used", list(answer.history)[:HISTORY_SHOWN]) if answer.history else "cold start"
    axis.set_title(f"{answer.user}\n{history}", fontsize=9, color=INK, loc="left")
    scores = [tag.score for tag in answer.tags]
    positions = range(len(scores))
    axis.barh(positions, scores, color=[HIT if tag.name in own_tags else MISS for tag in answer.tags], height=0.75)
    for position, tag in zip(positions, answer.tags, strict=True):
        axis.text(0.015, position, tag.name, va="center", fontsize=10, color=INK)
        axis.text(1.12, position, f"{tag.score:.2f}", va="center", ha="right", fontsize=9, color=FAINT)
    axis.set_xlim(0, 1.15)
    axis.invert_yaxis()
    axis.set_axis_off()


def _listed(intro: str, tags: Sequence[str]) -> str:
    return textwrap.fill(f"{intro}: {', '.join(tags)}", LINE)
