"""The paper's Tables IV to IX as printed, each row with ours, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass

from measure.markdown import table
from training.ablation import rows
from training.ablation.results import Results
from training.ablation.rows import Row

YFCC100M = (
    "YFCC100M, 1,540 tags, about 68,000 test pictures, in the split of ConTagNet; by its public code, test pictures "
    "have a date, coordinates and at least five tags, training pictures at least two"
)
NUS_WIDE = "NUS-WIDE, 1,000 tags, about 204,000 training and 5,000 test pictures"

OLD_BACKBONE = (
    "is A1 on an older network. Without its ImageNet weights a row would compare pretraining, not networks; the rows "
    "of A1 on other backbones stand for the question"
)
ZERO_SHOT = (
    "predicts tags that training never saw, from WordNet and word vectors. On generated data most tags are invented "
    "place names, about which neither says anything; the tag graph is the supervised part"
)
FINE_TUNED = "is trained on YFCC100M first (`--init-from`); one generated data set has no second one to learn from"

K5 = ("precision@5", "recall@5", "accuracy@5")
TEN = ("C-P@10", "C-R@10", "C-F1@10", "O-P@10", "O-R@10", "O-F1@10")
PRECISIONS = ("precision@3", "precision@5", "precision@10")
ALL = tuple(f"{metric}@{k}" for metric in ("precision", "recall", "accuracy") for k in (3, 5, 10))


@dataclass(frozen=True)
class Printed:
    """A line of the paper, its figures (None: none printed), and `ours`: our row, or why there is none."""

    name: str
    figures: tuple[float | None, ...]
    ours: Row | str


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: its data and filter, the metrics of its columns by our names, and a remark."""

    title: str
    data: str
    metrics: tuple[str, ...]
    lines: tuple[Printed, ...]
    remark: str = ""


NO_CLASSES = (None, None, None)

TABLES = (
    PaperTable(
        "Table IV",
        YFCC100M,
        K5,
        (
            Printed("Baseline", (0.04, 0.03, 0.18), rows.FREQUENT_TAGS),
            Printed("CNN (AlexNet)", (0.21, 0.18, 0.65), OLD_BACKBONE),
            Printed("CNN-CTC", (0.24, 0.20, 0.72), OLD_BACKBONE),
            Printed("PROMPT", (0.23, 0.19, 0.69), rows.PROMPT),
            Printed("ConTagNet", (0.25, 0.20, 0.71), rows.RAW),
            Printed("Proposed", (0.39, 0.28, 0.84), rows.A6),
        ),
        "A picture with fewer than five tags cannot reach a precision@5 of 1: the filter alone raises the paper's "
        "figures. PROMPT's were measured on other test pictures (46,700), with their titles and descriptions. CTC: "
        "constrained time cost (He and Sun 2015).",
    ),
    PaperTable(
        "Table V",
        NUS_WIDE,
        TEN,
        (
            Printed("DLSR", (*NO_CLASSES, 0.20, 0.25, 0.22), rows.DLSR),
            Printed("WARP", (0.14, 0.16, 0.15, 0.18, 0.31, 0.23), rows.WARP),
            Printed("FastTag", (*NO_CLASSES, 0.20, 0.25, 0.22), rows.FASTTAG),
            Printed("Softmax", (0.14, 0.18, 0.16, 0.17, 0.29, 0.22), rows.SOFTMAX),
            Printed("CNN-RNN", (0.19, 0.15, 0.17, 0.19, 0.31, 0.23), rows.CNN_RNN),
            Printed("ConTagNet", (0.18, 0.22, 0.20, 0.22, 0.36, 0.27), rows.RAW),
            Printed("ML-ZSL, generalized", (*NO_CLASSES, 0.23, 0.26, 0.24), ZERO_SHOT),
            Printed("ML-ZSL", (*NO_CLASSES, 0.29, 0.32, 0.30), ZERO_SHOT),
            Printed("Proposed, from ImageNet", (0.26, 0.45, 0.33, 0.31, 0.64, 0.42), rows.A6),
            Printed("Proposed, from YFCC100M", (0.33, 0.52, 0.40, 0.35, 0.70, 0.47), FINE_TUNED),
        ),
        "DLSR and FastTag have the same three figures in the paper. Neither row of ML-ZSL is of the same task as the "
        "others.",
    ),
    PaperTable(
        "Table VI",
        NUS_WIDE,
        PRECISIONS,
        (
            Printed("FastTag", (0.21, 0.17, 0.13), rows.FASTTAG),
            Printed("ConTagNet", (0.32, 0.27, 0.20), rows.RAW),
            Printed("CLARE", (0.21, 0.16, 0.14), rows.CLARE),
            Printed("ResNet-50+Preference", (0.20, 0.17, 0.13), rows.A2),
            Printed("Proposed, from ImageNet", (0.60, 0.47, 0.31), rows.A6),
            Printed("Proposed, from YFCC100M", (0.66, 0.52, 0.35), FINE_TUNED),
        ),
        "CLARE's class labels are NUS-WIDE's 81 concepts there; on generated data, what the drawing shows, with noise.",
    ),
    PaperTable(
        "Table VII",
        YFCC100M,
        ALL,
        (
            Printed("A1", (0.11, 0.10, 0.08, 0.05, 0.07, 0.12, 0.28, 0.37, 0.52), rows.A1),
            Printed("A2", (0.18, 0.15, 0.11, 0.07, 0.10, 0.14, 0.40, 0.46, 0.56), rows.A2),
            Printed("A3", (0.34, 0.29, 0.22, 0.15, 0.21, 0.30, 0.63, 0.72, 0.82), rows.A3),
            Printed("A4", (0.31, 0.26, 0.19, 0.14, 0.19, 0.28, 0.60, 0.69, 0.79), rows.COLD),
            Printed("A5", (0.43, 0.36, 0.26, 0.19, 0.26, 0.37, 0.75, 0.81, 0.88), rows.A5),
            Printed("A6", (0.46, 0.39, 0.28, 0.30, 0.28, 0.39, 0.77, 0.84, 0.90), rows.A6),
        ),
        "The recall@3 of A6 is as printed; it is above its recall@5.",
    ),
    PaperTable(
        "Table VIII",
        NUS_WIDE,
        ALL,
        (
            Printed("A1", (0.09, 0.08, 0.07, 0.03, 0.05, 0.10, 0.22, 0.28, 0.40), rows.A1),
            Printed("A2", (0.20, 0.17, 0.13, 0.11, 0.15, 0.21, 0.41, 0.51, 0.62), rows.A2),
            Printed("A3", (0.17, 0.14, 0.11, 0.09, 0.13, 0.19, 0.39, 0.47, 0.58), rows.A3),
            Printed("A4", (0.18, 0.14, 0.10, 0.11, 0.14, 0.20, 0.42, 0.50, 0.60), rows.COLD),
            Printed("A5", (0.46, 0.39, 0.25, 0.33, 0.40, 0.50, 0.82, 0.86, 0.91), rows.A5),
            Printed("A6", (0.66, 0.52, 0.35, 0.48, 0.58, 0.70, 0.95, 0.97, 0.98), rows.A6),
        ),
    ),
    PaperTable(
        "Table IX",
        NUS_WIDE,
        ALL,
        (
            Printed("no skips, MSE", (0.49, 0.39, 0.26, 0.33, 0.42, 0.51, 0.83, 0.86, 0.91), rows.NO_SKIPS_MSE),
            Printed("skips, MSE", (0.53, 0.43, 0.27, 0.35, 0.45, 0.55, 0.86, 0.90, 0.93), rows.SKIPS_MSE),
            Printed("no skips, Huber", (0.54, 0.43, 0.29, 0.36, 0.48, 0.58, 0.87, 0.92, 0.94), rows.NO_SKIPS_HUBER),
            Printed("skips, Huber", (0.66, 0.52, 0.35, 0.48, 0.58, 0.70, 0.95, 0.97, 0.98), rows.A6),
        ),
    ),
)


def beside_ours(main: Results) -> list[str]:
    """Each table with the paper's figure and ours in a cell, and beside it what cannot be compared."""
    lines = [
        "## The paper's tables beside ours",
        "",
        "A cell is the paper's figure / ours. Ours is of this study's data, for known users (the paper's have training "
        "pictures too), without a filter by tags: compare the order of rows, not the figures.",
    ]
    for each in TABLES:
        cells = [[line.name, *_cells(main, each, line)] for line in each.lines]
        lines += ["", f"### {each.title}", "", f"The paper: {each.data}.", "", *table(["", *each.metrics], cells)]
        remarks = _reasons(each.lines) + ([each.remark] if each.remark else [])
        lines += ["", *remarks] if remarks else []
    return [*lines, ""]


def _cells(main: Results, of: PaperTable, line: Printed) -> list[str]:
    ours = ["-"] * len(of.metrics)
    if isinstance(line.ours, Row) and main.has(line.ours):
        ours = [main.cell(line.ours, metric) for metric in of.metrics]
    printed = ("-" if figure is None else f"{figure:.2f}" for figure in line.figures)
    return [f"{theirs} / {of_metric}" for theirs, of_metric in zip(printed, ours, strict=True)]


def _reasons(lines: Sequence[Printed]) -> list[str]:
    """A sentence for each reason, with the names of its rows."""
    named: dict[str, list[str]] = {}
    for line in lines:
        if isinstance(line.ours, str):
            named.setdefault(line.ours, []).append(line.name)
    return [
        f"{' and '.join(names)}: not here, as {'it' if len(names) == 1 else 'each'} {reason}."
        for reason, names in named.items()
    ]
