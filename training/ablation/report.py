"""From results to `ablation.md` and its picture."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from measure.files import write_text
from measure.kept import write_below
from measure.markdown import table
from measure.pictures import INK, MEDIUM, SMALL, new_figure
from training import figures
from training.ablation.rows import METHODS, QUESTIONS, TABLES, VARIANTS, Row
from training.ablation.study import Study
from training.data.manifest import SPLITS, read_manifest
from training.evaluate import WITH

COMMAND = "make ablation"
MAIN = "precision@5"
RANKED = tuple(f"{metric}@{k}" for metric in ("precision", "recall", "accuracy") for k in (3, 5, 10))
PER_CLASS = ("C-P@10", "C-R@10", "C-F1@10", "O-P@10", "O-R@10", "O-F1@10")
OTHERS = ("nDCG@10", "MAP", "MRR", "precision@5/user")

Values = Mapping[str, Sequence[float]]
"""Metric to one value a seed."""
Result = Callable[[Row], Values]


def write_report(study: Study, seeds: int, folder: Path, machine: str) -> Path:
    """Write `ablation.md`, `ablation.png` and `ablation.json` into `folder`, and return the first's path.

    What is written by hand above in it is kept.
    """
    runs = [(run, seed) for run in (*VARIANTS, METHODS) for seed in range(seeds)]
    contents = {key: json.loads(study.result(*key).read_text()) for key in runs}

    def result(row: Row) -> Values:
        per_seed = [contents[row.run, seed]["metrics"][row.result] for seed in range(seeds)]
        return {metric: [values[metric] for values in per_seed] for metric in per_seed[0]}

    folder.mkdir(parents=True, exist_ok=True)
    rows = list(dict.fromkeys(row for table in TABLES.values() for row in table))
    values = {f"{row.run}, {row.result}": result(row) for row in rows}
    write_text(folder / "ablation.json", json.dumps(values, indent=1))
    _draw(result, folder / "ablation.png")
    lines = [*_setup(study, seeds, contents, machine), *_answers(result), *_tables(result)]
    return write_below(folder / "ablation.md", "Ablation", COMMAND, lines)


def _setup(study: Study, seeds: int, contents: Mapping[tuple[str, int], Any], machine: str) -> list[str]:
    manifest = read_manifest(Path(study.data))
    pictures = ", ".join(f"{len(manifest.rows(split)):,} {split}" for split in SPLITS if len(manifest.rows(split)))
    minutes = sum(content["seconds"] for content in contents.values()) / 60
    return [
        f"Size `{study.size}`, {study.epochs} epochs, {seeds} seeds; {pictures} pictures, of "
        f"{len(manifest.user_names):,} users, {len(manifest.vocabulary):,} tags. {len(contents)} runs on {machine}; "
        f"their times add up to {minutes:.0f} minutes.",
        "",
        "Each figure is the mean over the seeds +- their standard deviation. A seed changes the initial weights, and "
        "the order, crops and flips of the pictures; data set and split stay.",
        "",
        "![precision@5 of every row](ablation.png)",
        "",
    ]


def _answers(result: Result) -> list[str]:
    """The difference of two rows for each seed: what the two have in common, such as luck, cancels out."""
    rows = []
    for question in QUESTIONS:
        pairs = zip(result(question.row)[MAIN], result(question.over)[MAIN], strict=True)
        rows.append([question.text, _cell([a - b for a, b in pairs], sign="+")])
    lines = table(["question", "difference"], rows)
    return ["## Answers", "", f"Differences in {MAIN}, seed by seed.", "", *lines, ""]


def _tables(result: Result) -> list[str]:
    lines = []
    for title, rows in TABLES.items():
        lines += [f"## {title}", "", *_table(result, rows, RANKED)]
    everything = list(TABLES.values())[-1]
    return [*lines, "### Per class, overall, and by rank", "", *_table(result, everything, PER_CLASS + OTHERS)]


def _table(result: Result, rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    lines = [[row.label, *(_cell(result(row)[metric]) for metric in metrics)] for row in rows]
    return [*table(["", *metrics], lines), ""]


def _cell(values: Sequence[float], sign: str = "") -> str:
    return f"{mean(values):{sign}.3f} +- {_deviation(values):.3f}"


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _draw(result: Result, path: Path) -> None:
    """A bar a row with its seeds as dots, a panel a table, on one scale."""
    figure = new_figure(0.33 * sum(map(len, TABLES.values())) + 0.55 * len(TABLES) + 0.4, 11)
    panels = figure.subplots(len(TABLES), 1, sharex=True, height_ratios=[len(rows) + 0.6 for rows in TABLES.values()])
    for axis, (title, rows) in zip(panels, TABLES.items(), strict=True):
        values = [result(row)[MAIN] for row in rows]
        places = np.arange(len(rows))
        full = [figures.HIT if row.run == "A6" and row.result == WITH else figures.MISS for row in rows]
        axis.barh(places, [mean(v) for v in values], color=full, height=0.7)
        for place, of_seeds in zip(places, values, strict=True):
            axis.plot(of_seeds, [place] * len(of_seeds), "o", markersize=3, color=INK, alpha=0.7)
            axis.text(max(of_seeds) + 0.008, place, f"{mean(of_seeds):.3f}", va="center", fontsize=SMALL)
        axis.set_yticks(places, [row.label for row in rows], fontsize=SMALL)
        axis.set_title(title, loc="left", fontsize=MEDIUM, color=INK, fontweight="bold")
        axis.invert_yaxis()
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    panels[-1].set_xlabel(f"{MAIN} on the test pictures (green: the full model; dots: seeds)", fontsize=SMALL)
    figures.save(figure, path)
