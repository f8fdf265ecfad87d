"""Explorations as text and as a picture."""

import math
from collections.abc import Collection, Sequence
from itertools import zip_longest
from pathlib import Path

from altreco_client import Reason, Tag

from measure.pictures import INK, LARGE, new_figure
from training import figures
from training.explore.growth import Answer, Exploration, Step

LISTED = 6
"""Tags of a history that are shown, the most used."""
LINE = 38
"""Characters that fit above a column of the picture."""
LEGEND = f"* a tag that the owner gave, + not recommended in the step before; {figures.REASONS}"


def format_exploration(exploration: Exploration) -> str:
    """Two tables: one with a column per step, one with a column per user. LEGEND explains the marks."""
    own = exploration.own_tags
    growth = [
        ([f"{step.share} %"], [str(step.pictures)], step.added[:LISTED], _cells(step.tags, own, step.came_up))
        for step in exploration.steps
    ]
    users = [
        ([_name(answer, exploration)], answer.used[:LISTED] or ["nothing"], _reasons(answer.reasons, own))
        for answer in exploration.answers
    ]
    title = f"{exploration.image} of {exploration.owner}, own tags: {', '.join(own) or 'none'}"
    return "\n\n".join(
        [title, _table(("history", "pictures", "added", "tags"), growth), _table(("user", "often used", "tags"), users)]
    )


def write_figure(explorations: Sequence[Exploration], path: Path) -> None:
    """Draw Table XII, one picture per line, above Figure 4, two per line.

    Raises TrainingError if the PNG cannot be written.
    """
    lines, pairs = len(explorations), math.ceil(len(explorations) / 2)
    figure = new_figure(2.75 * (lines + pairs) + 1.4, 19)
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[lines + 0.2, pairs + 0.2])
    style = {"fontsize": LARGE, "color": INK}
    above.suptitle(
        "The owner's history grows (green: a tag that the owner gave; orange: not recommended in the step before)",
        **style,
    )
    below.suptitle(f"The same photo, two users ({figures.SHADES})", **style)
    grid = above.subplots(lines, 6, squeeze=False, width_ratios=[1.15, 1, 1, 1, 1, 1])
    for line, exploration in zip(grid, explorations, strict=True):
        figures.photo(line[0], exploration.file, _owner(exploration))
        for axis, step in zip(line[1:], exploration.steps, strict=True):
            figures.bars(axis, step.tags, _step_title(step), hits=exploration.own_tags, new=step.came_up)
    grid = below.subplots(pairs, 6, squeeze=False, width_ratios=[1.15, 1, 1, 1.15, 1, 1])
    for axis in grid.flat:
        axis.set_axis_off()
    for panel, exploration in zip(grid.reshape(-1, 3), explorations, strict=False):
        figures.photo(panel[0], exploration.file, _owner(exploration))
        for axis, answer in zip(panel[1:], exploration.answers, strict=False):
            used = figures.listed("often used", answer.used[:LISTED], LINE) if answer.used else "cold start"
            title = f"{_name(answer, exploration)}\n{used}"
            figures.reasons(axis, answer.reasons, title, hits=exploration.own_tags)
    figures.save(figure, path)


def _owner(exploration: Exploration) -> str:
    return figures.listed(exploration.owner, exploration.own_tags, LINE)


def _step_title(step: Step) -> str:
    added = figures.listed("added", step.added[:LISTED], LINE) if step.added else "nothing added"
    return f"{step.share} % (pictures: {step.pictures})\n{added if step.pictures else 'cold start'}"


def _name(answer: Answer, exploration: Exploration) -> str:
    return f"{answer.user} (owner)" if answer.user == exploration.owner else answer.user


def _cells(tags: Sequence[Tag], own: Collection[str], came_up: Collection[str] = ()) -> list[str]:
    return [
        f"{'+' if tag.name in came_up else ''}{tag.name}{'*' if tag.name in own else ''} {tag.score:.2f}"
        for tag in tags
    ]


def _reasons(reasons: Sequence[Reason], own: Collection[str]) -> list[str]:
    return [figures.reason(each, own) for each in reasons]


def _table(names: Sequence[str], columns: Sequence[Sequence[Sequence[str]]]) -> str:
    """Blocks of lines below each other, with their names on the left; each column has one block for each name."""
    rows: list[tuple[str, ...]] = []
    for name, *blocks in zip(names, *columns, strict=True):
        rows += zip_longest([name], *blocks, fillvalue="")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("   ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
