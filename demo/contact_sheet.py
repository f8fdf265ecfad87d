"""The recommendations as a picture."""

from collections.abc import Sequence
from pathlib import Path

from demo.recommend import Answer, Row
from measure.pictures import INK, LARGE, new_figure
from training import figures

HISTORY_SHOWN = 6
LINE = 44
"""Characters that fit above a column."""


def write_contact_sheet(rows: Sequence[Row], path: Path) -> None:
    """One line a picture: the photo with its owner's tags, then the answers; green: a tag that the owner gave."""
    figure = new_figure(2.75 * len(rows) + 0.9, 15)
    figure.suptitle(
        "The same photo, three users: recommended tags with their scores (green: a tag that the owner gave)",
        fontsize=LARGE,
        color=INK,
    )
    axes = figure.subplots(len(rows), 4, squeeze=False, width_ratios=[1.15, 1, 1, 1])
    for line, row in zip(axes, rows, strict=True):
        figures.photo(line[0], row.image, figures.listed("own tags", row.own_tags, LINE))
        for axis, answer in zip(line[1:], row.answers, strict=True):
            figures.bars(axis, answer.tags, _title(answer), hits=row.own_tags)
    figures.save(figure, path)


def _title(answer: Answer) -> str:
    often_used = list(answer.history)[:HISTORY_SHOWN]
    return f"{answer.user}\n{figures.listed('often used', often_used, LINE) if often_used else 'cold start'}"
