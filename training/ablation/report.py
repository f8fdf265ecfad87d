"""From results to `ablation.md` and its picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from measure.files import write_text
from measure.kept import write_below
from measure.markdown import table
from training.ablation.parts import FEW, MAIN, POPULATIONS, Part
from training.ablation.picture import draw
from training.ablation.results import PRECISION, Column, Results, column, read_results
from training.ablation.rows import FEW_PICTURES, MODELS, POPULATION, QUESTIONS, TABLES, Row
from training.ablation.study import Study
from training.data.manifest import SPLITS, read_manifest
from training.evaluate import ANOTHER, NEW, SHORT, WITH, WITHOUT

COMMAND = "make ablation"

HISTORIES = (WITH, *SHORT, WITHOUT, ANOTHER)
FIRST = next(iter(SHORT))


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
    lines += _answers(main) + _tables(main)
    missing = [part.name for part in parts if part.name not in done]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)} (`--only {' '.join(missing)}`)."]

    folder.mkdir(parents=True, exist_ok=True)
    draw(main, done.get(POPULATIONS, ()), folder / "ablation.png")
    used = {Path(of.study.data).name: of.used for of_part in done.values() for of in of_part}
    write_text(folder / "ablation.json", json.dumps(used, indent=1))
    return write_below(folder / "ablation.md", "Ablation", COMMAND, lines)


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
    manifest = read_manifest(Path(study.data))
    pictures = ", ".join(f"{len(manifest.rows(split)):,} {split}" for split in SPLITS if len(manifest.rows(split)))
    users = len(set(manifest.users[manifest.rows("train")].tolist()))
    return [Path(study.data).name, f"{users:,}", pictures, str(study.epochs)]


def _by_history(main: Results) -> list[str]:
    lines = []
    for title, group in (("New users", NEW), ("Known users", "")):
        if group == "" or main.has_new_users:
            columns = [column(_short(history), history=history, group=group) for history in HISTORIES]
            lines += [f"## {title}", "", *_table(main, MODELS, columns)]
    return lines


def _short(history: str) -> str:
    return {WITH: "all pictures", WITHOUT: "none", ANOTHER: "another's"}.get(history, history)


def _few_pictures(few: Results) -> list[str]:
    columns = [
        *(column(f"new, {_short(history)}", history=history, group=NEW) for history in (WITH, FIRST, "5 pictures")),
        *(column(f"known, {_short(history)}", history=history) for history in (WITH, FIRST, "5 pictures")),
    ]
    return ["## Many users with twelve pictures each", "", *_table(few, FEW_PICTURES, columns)]


def _populations(populations: Sequence[Results]) -> list[str]:
    histories = (WITH, *SHORT, WITHOUT)
    columns = [column(f"new, {_short(history)}", history=history, group=NEW) for history in histories]
    columns.append(column("known, all pictures"))
    lines = [
        [f"{Path(results.study.data).name}: {row.label}", *(show(results, row) for _, show in columns)]
        for results in populations
        for row in POPULATION
    ]
    return ["## More training users", "", *table(["", *(heading for heading, _ in columns)], lines), ""]


def _answers(main: Results) -> list[str]:
    kinds = [("known", WITH, ""), ("new", WITH, NEW), (f"new, {FIRST}", FIRST, NEW)]
    kinds = [kind for kind in kinds if kind[2] == "" or main.has_new_users]
    lines = [
        [question.text, *(main.difference(question, history=history, group=group) for _, history, group in kinds)]
        for question in QUESTIONS
    ]
    heads = ["question", *(name for name, *_ in kinds)]
    return ["## Answers", "", f"Differences in {PRECISION}, seed by seed.", "", *table(heads, lines), ""]


def _tables(main: Results) -> list[str]:
    columns = [column(metric, metric) for metric in (PRECISION, "recall@5", "accuracy@5", "MAP", "C-F1@10")]
    if main.has_new_users:
        columns.append(column(f"{PRECISION}, new", group=NEW))
    lines = []
    for title, rows in TABLES.items():
        lines += [f"## {title}", "", *_table(main, rows, columns)]
    return lines


def _table(results: Results, rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    lines = [[row.label, *(show(results, row) for _, show in columns)] for row in rows]
    return [*table(["", *(heading for heading, _ in columns)], lines), ""]
