"""The recommendations as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from demo.recommend import Answer, Row
from measure.pictures import INK, LARGE, MEDIUM, SMALL, new_figure
from training import figures
from training.evaluate import ANOTHER, FREQUENT, FUSION, NEW, WITH, WITHOUT, Metrics

HISTORY_SHOWN = 6
LINE = 44
"""Characters that fit above a column."""
PRECISION = "precision@5"
METHODS = {
    "own history": WITH,
    "own history, 1 picture": "1 picture",
    "no history": WITHOUT,
    "another's history": ANOTHER,
    "late fusion": FUSION,
    "most frequent tags": FREQUENT,
    "new user": f"{NEW}{WITH}",
    "new user, 1 picture": f"{NEW}1 picture",
    "new user, late fusion": f"{NEW}{FUSION}",
}
"""Label to method of `evaluate`, in the picture and in the demo's text."""


def write_contact_sheet(rows: Sequence[Row], metrics: Metrics, path: Path) -> None:
    """One line for each picture: the photo with its owner's tags, then the answers. On the right, precision@5.

    Green: a tag that the owner gave. Pale: what the history adds. Raises TrainingError if the PNG cannot be written.
    """
    figure = new_figure(2.75 * len(rows) + 1.2, 19)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    figure.suptitle(
        f"Recommended tags with their scores; green: a tag that the owner gave\n{figures.SHADES}",
        fontsize=LARGE,
        color=INK,
    )
    ((photos, precision),) = figure.subfigures(1, 2, squeeze=False, width_ratios=[4.2, 1.1])
    axes = photos.subplots(len(rows), 4, squeeze=False, width_ratios=[1.0, 1, 1, 1])
    for line, row in zip(axes, rows, strict=True):
        figures.photo(line[0], row.image, figures.listed("own tags", row.own_tags, LINE))
        for axis, answer in zip(line[1:], row.answers, strict=False):
            figures.reasons(axis, answer.reasons, _title(answer), hits=row.own_tags)
        figures.bars(line[3], row.cold, "no history\ncold start", hits=row.own_tags)
    precision.suptitle(f"{PRECISION} on all test pictures", fontsize=MEDIUM, color=INK, fontweight="bold")
    _precision(precision.subplots(), metrics)
    figures.save(figure, path)


def _precision(axis: Axes, metrics: Metrics) -> None:
    labels = [label for label, method in METHODS.items() if method in metrics]
    values = [metrics[METHODS[label]][PRECISION] for label in labels]
    served = [METHODS[label] in (WITH, f"{NEW}{WITH}") for label in labels]
    axis.barh(range(len(labels)), values, color=[figures.HIT if is_served else figures.MISS for is_served in served])
    for place, value in enumerate(values):
        axis.text(value + 0.01, place, f"{value:.3f}", va="center", fontsize=SMALL, color=INK)
    axis.set_yticks(range(len(labels)), labels, fontsize=MEDIUM, color=INK)
    axis.set_xlim(0, max([*values, 0.1]) * 1.25)
    axis.set_xticks([])
    axis.invert_yaxis()
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axis.tick_params(length=0)


def _title(answer: Answer) -> str:
    often_used = list(answer.history)[:HISTORY_SHOWN]
    return f"{answer.user}\n{figures.listed('often used', often_used, LINE) if often_used else 'cold start'}"
