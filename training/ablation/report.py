"""From results to `ablation.md` and its picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from measure.files import write_text
from measure.kept import write_below
from measure.markdown import table
from training.ablation.paper import beside_ours
from training.ablation.parts import FEW, MAIN, POPULATIONS, Part
from training.ablation.picture import draw
from training.ablation.results import PRECISION, Column, Results, column, read_results
from training.ablation.rows import BY_CONTEXT, FEW_PICTURES, MODELS, NOTES, POPULATION, QUESTIONS, TABLES, Row
from training.ablation.study import VISUAL_NET, Study
from training.data.manifest import SPLITS, hold_out_as, read_manifest
from training.evaluate import ANOTHER, NEW, SHORT, WITH, WITHOUT
from training.methods import compare

COMMAND = "make ablation"

HISTORIES = (WITH, *SHORT, WITHOUT, ANOTHER)
FIRST, FIFTH = "1 picture", "5 pictures"

VARIANT_ROWS = tuple(row for row in dict.fromkeys(row for rows in TABLES.values() for row in rows) if row not in MODELS)

KEPT = (
    *(f"{metric}@{k}" for metric in ("precision", "recall", "accuracy") for k in (3, 5, 10)),
    *("C-P@10", "C-R@10", "C-F1@10", "O-P@10", "O-R@10", "O-F1@10", "nDCG@10", "MAP", "MRR", "precision@5/user"),
)
"""Metrics of every row in `ablation.json`, with the user's own history."""


def write_report(parts: Sequence[Part], seeds: int, folder: Path, machine: str) -> Path:
    """Write `ablation.md`, `ablation.png` and `ablation.json` into `folder`, and return the first one's path.

    What is written by hand above the mark is kept. The main part must be finished; another one that is not is left out.
    """
    done = {part.name: read_results(part, seeds) for part in parts if part.is_done(seeds)}
    (main,) = done[MAIN]
    lines = _setup(parts, done, seeds, machine)
    lines += _by_history(main)
    if FEW in done:
        lines += _few_pictures(*done[FEW])
    if POPULATIONS in done:
        lines += _populations(done[POPULATIONS])
    lines += _answers(main) + _variants(main) + _by_context(main)
    lines += _left_out(next(part for part in parts if part.name == MAIN)) + beside_ours(main)
    missing = [part.name for part in parts if part.name not in done]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)} (`--only {' '.join(missing)}`)."]

    folder.mkdir(parents=True, exist_ok=True)
    for row in filter(main.has, (*MODELS, *VARIANT_ROWS)):
        for metric in KEPT:
            for group in main.groups:
                main.values(row, metric, group=group)
    draw(main, done.get(POPULATIONS, ()), folder / "ablation.png")
    write_text(folder / "ablation.json", json.dumps(_used(done), indent=1))
    return write_below(folder / "ablation.md", "Ablation", COMMAND, lines)


def _used(done: Mapping[str, list[Results]]) -> Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]:
    """Data set to run and method to metric to one value for each seed: the figures that the report shows."""
    used: dict[str, dict[str, dict[str, Sequence[float]]]] = {}
    for results in (results for of_part in done.values() for results in of_part):
        of_data = used.setdefault(Path(results.study.data).name, {})
        for method, values in results.used.items():
            of_data.setdefault(method, {}).update(values)
    return used


def _setup(parts: Sequence[Part], done: Mapping[str, list[Results]], seeds: int, machine: str) -> list[str]:
    (main,) = done[MAIN]
    runs = {
        (study, run, seed)
        for part in parts
        if part.name in done
        for study in part.studies
        for run in part.runs
        for seed in range(seeds)
    }
    minutes = sum(study.seconds(run, seed) for study, run, seed in runs) / 60
    return [
        f"Size `{main.study.size}`, {seeds} seeds, {len(runs)} runs on {machine}; their times add up to {minutes:.0f} "
        "minutes.",
        "",
        *table(["data", "users in training", "pictures", "epochs"], [_data(of[-1].study) for of in done.values()]),
        "",
        f"Every figure is the mean\u00b1standard deviation over the seeds; without a name, it is {PRECISION}. A seed "
        "changes the initial weights, and the order, crops and flips of the pictures.",
        "",
        "![precision@5 by the length of the history, by the number of training users, and of every row](ablation.png)",
        "",
    ]


def _data(study: Study) -> list[str]:
    manifest = hold_out_as(read_manifest(Path(study.data)), study.settings(VISUAL_NET, seed=0))
    pictures = ", ".join(f"{len(manifest.rows(split)):,} {split}" for split in SPLITS if len(manifest.rows(split)))
    users = len(set(manifest.users[manifest.rows("train")].tolist()))
    return [Path(study.data).name, f"{users:,}", pictures, str(study.epochs)]


def _by_history(main: Results) -> list[str]:
    lines = []
    for title, group, histories in (
        ("New users", NEW, HISTORIES),
        ("Known users", "", (WITH, FIRST, FIFTH, WITHOUT, ANOTHER)),
    ):
        if group in main.groups:
            columns = [column(_short(history), history=history, group=group) for history in histories]
            lines += [f"## {title}", "", *_table(main, MODELS, columns)]
    return lines


def _short(history: str) -> str:
    return {WITH: "all pictures", WITHOUT: "none", ANOTHER: "another's"}.get(history, history)


def _few_pictures(few: Results) -> list[str]:
    columns = [
        column(f"{kind}, {_short(history)}", history=history, group=group)
        for kind, group in (("new", NEW), ("known", ""))
        for history in (WITH, FIRST)
    ]
    return ["## Many users with twelve pictures each", "", *_table(few, FEW_PICTURES, columns)]


def _populations(populations: Sequence[Results]) -> list[str]:
    columns = [column(f"new, {_short(history)}", history=history, group=NEW) for history in (WITH, *SHORT)]
    columns.append(column("known, all pictures"))
    lines = [
        [f"{Path(results.study.data).name}: {row.label}", *(show(results, row) for _, show in columns)]
        for results in populations
        for row in POPULATION
    ]
    return ["## More training users", "", *table(["", *(heading for heading, _ in columns)], lines), ""]


def _answers(main: Results) -> list[str]:
    lines = [
        [question.text, *(main.difference(question, group=group) for group in main.groups)]
        for question in QUESTIONS
        if main.has(question.row, question.over)
    ]
    heads = ["question", *main.groups.values()]
    intro = f"{PRECISION}, or the metric named, of the first row named minus that of the second, seed by seed."
    return ["## Answers", "", intro, "", *table(heads, lines), ""]


def _variants(main: Results) -> list[str]:
    columns = [column(name, group=group) for group, name in main.groups.items()]
    notes = [f"- {note}" for row, note in NOTES.items() if main.has(row)]
    return ["## Every variant and method", "", *_table(main, VARIANT_ROWS, columns), *notes, ""]


def _by_context(main: Results) -> list[str]:
    """Known users' precision@5 by what the context of a picture says, as far as all rows have it."""
    rows = [row for row in BY_CONTEXT if main.has(row)]
    names = [name for name in compare.BY_CONTEXT if rows and all(main.measures(row, _of(name)) for row in rows)]
    if not names:
        return []
    intro = (
        f"{PRECISION} of known users, of test pictures with and without coordinates, and with only some tags ranked "
        "and counted: names of places, words for times, all others."
    )
    return ["## By context", "", intro, "", *_table(main, rows, [column(name, _of(name)) for name in names])]


def _of(name: str) -> str:
    return f"{PRECISION}, {name}"


def _left_out(main: Part) -> list[str]:
    return [f"Left out: {run}: {reason}." for run, reason in main.left_out.items()] + [""] * bool(main.left_out)


def _table(results: Results, rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    lines = [[row.label, *(show(results, row) for _, show in columns)] for row in rows if results.has(row)]
    return [*table(["", *(heading for heading, _ in columns)], lines), ""]
