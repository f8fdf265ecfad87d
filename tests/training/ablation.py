"""An ablation study with made-up results, and what its report says of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import polars as pl

from training.ablation.parts import Part, all_parts
from training.ablation.report import KEPT
from training.ablation.rows import METHODS, MODELS, TABLES, Row
from training.ablation.study import Study
from training.data.manifest import SCHEMA
from training.evaluate import FREQUENT, FUSION, HISTORIES, NEW, WITH, fused
from training.methods import compare
from training.settings import to_json

SEEDS = 3
FUSIONS = tuple(map(fused, HISTORIES))
ROWS = (*MODELS, *(row for table in TABLES.values() for row in table))
OF_CONTAGNET = (compare.CONTEXT, compare.PERMUTED, compare.VISUAL, FUSION)
OF_METHODS = {
    METHODS: (compare.OWN, compare.NEIGHBOURS, compare.FASTTAG, *FUSIONS),
    "prompt": (compare.GROUPED, compare.ONE_GROUP),
    "cnn-rnn": (compare.PATH, compare.BY_PROBABILITY, compare.GREEDY, compare.END_TO_END),
    "dlsr": (compare.TWO_VIEWS, compare.PICTURES_ALONE),
    "clare": (compare.JOINT, compare.RIDGE),
    "tag-graph": (compare.GRAPH, compare.NO_GRAPH),
    "contagnet-raw": OF_CONTAGNET,
    "contagnet-cyclic": OF_CONTAGNET,
}
METRICS = (*KEPT, *(f"precision@5, {name}" for name in compare.BY_CONTEXT))


def methods(run: str) -> tuple[str, ...]:
    """What a run measures, for known and for new users."""
    found = OF_METHODS.get(run, (*HISTORIES, *FUSIONS, FREQUENT))
    return tuple(f"{group}{method}" for group in ("", NEW) for method in found)


def value(data: str, run: str, method: str, metric: str, seed: int) -> float:
    """Another one for each: 0.100 to 0.699 for seed 0, 0.050 more and 0.070 less for the seeds 1 and 2."""
    of_all = 100 + crc32(f"{data} {run} {method} {metric}".encode()) % 600
    return of_all / 1000 + (0.0, 0.05, -0.07)[seed] * (run != "A1")


def finished_parts(work: Path) -> list[Part]:
    """Make the parts of a study whose runs are all done."""

    def study(data: Path, epochs: int) -> Study:
        return Study(
            size="ablation",
            data=str(data),
            work=str(work / "runs" / data.name),
            backbone="",
            epochs=epochs,
            workers=0,
            device="cpu",
        )

    made = all_parts(work, study, epochs=2)
    for part in made:
        for each in part.studies:
            write_data(Path(each.data))
            Path(each.work).mkdir(parents=True, exist_ok=True)
            for run in part.runs:
                for seed in range(SEEDS):
                    write_result(each, run, seed)
    return made


def write_data(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = [(f"{i}.png", f"user-{i % 2}", ["sea"], split) for i, split in enumerate(["train", "train", "test"])]
    pl.DataFrame(table, schema=list(SCHEMA), orient="row").write_parquet(folder / "manifest.parquet")
    (folder / "vocabulary.txt").write_text("sea\nsky\n")


def write_result(study: Study, run: str, seed: int) -> None:
    settings = to_json(study.settings(run, seed))
    data = Path(study.data).name
    metrics = {method: {m: value(data, run, method, m, seed) for m in METRICS} for method in methods(run)}
    content = {"settings": f"{study.data} {run} {settings}", "seconds": 20, "metrics": metrics}
    study.result(run, seed).write_text(json.dumps(content))


def table_rows(report: str, title: str) -> dict[str, list[str]]:
    """Label to cells, of the table below the heading."""
    lines = report[report.index(f"# {title}\n") :].split("\n\n")[2 if title == "Answers" else 1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {label: values for label, *values in cells if set(label) != {"-"}}


def expected(values: Sequence[float], sign: str = "") -> str:
    return f"{np.mean(values):{sign}.3f}\u00b1{np.std(values, ddof=1):.3f}"


def of_row(
    row: Row, metric: str = "precision@5", history: str = WITH, group: str = "", data: str = "people-60"
) -> list:
    method = f"{group}{row.method(history)}"
    return [value(data, row.run, method, metric, seed) for seed in range(SEEDS)]


def papers_table(report: str, title: str) -> dict[str, list[str]]:
    """Row to cells of one of the paper's tables."""
    lines = report[report.index(f"### {title}\n") :].split("\n\n")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {label: values for label, *values in cells}
