import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from measure.kept import mark
from tests.pixels import count
from training.ablation.__main__ import carry_out
from training.ablation.report import COMMAND, OTHERS, PER_CLASS, RANKED, write_report
from training.ablation.rows import METHODS, QUESTIONS, TABLES, VARIANTS, Row
from training.ablation.study import VISUAL_NET, Study
from training.errors import TrainingError
from training.evaluate import ANOTHER, FREQUENT, WITH, WITHOUT
from training.figures import HIT, MISS
from training.methods.compare import FASTTAG, FUSION, NEIGHBOURS, OWN
from training.presets import VARIANTS as PRESETS
from training.settings import to_json

SEEDS = 3
RESULTS = dict.fromkeys(VARIANTS, (WITH, WITHOUT, ANOTHER, FREQUENT)) | {METHODS: (OWN, NEIGHBOURS, FASTTAG, FUSION)}
METRICS = (*RANKED, *PER_CLASS, *OTHERS)
ROWS = tuple(row for table in TABLES.values() for row in table)


def value(run: str, result: str, metric: str, seed: int) -> float:
    """Another one for each: 0.100 to 0.7 for seed 0, and 0.050 more and 0.070 less for the seeds 1 and 2."""
    place = list(RESULTS).index(run) * 4 + RESULTS[run].index(result)
    return (100 + 5 * place + METRICS.index(metric)) / 1000 + (0.0, 0.05, -0.07)[seed] * (run != "A1")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """All of its runs are done."""
    data = tmp_path / "data"
    data.mkdir()
    table = [(f"{i}.png", f"user-{i % 2}", ["sea"], split) for i, split in enumerate(["train", "train", "test"])]
    frame = pl.DataFrame(table, schema=["image", "user", "tags", "split"], orient="row")
    frame.write_parquet(data / "manifest.parquet")
    (data / "vocabulary.txt").write_text("sea\nsky\n")
    work = tmp_path / "work"
    work.mkdir()
    made = Study(size="ablation", data=str(data), work=str(work), backbone="", epochs=2, workers=0, device="cpu")
    for run, results in RESULTS.items():
        for seed in range(SEEDS):
            settings = to_json(made.settings(VISUAL_NET if run == METHODS else run, seed))
            metrics = {result: {m: value(run, result, m, seed) for m in METRICS} for result in results}
            content = {"settings": f"{data} {run} {settings}", "seconds": 20, "metrics": metrics}
            made.result(run, seed).write_text(json.dumps(content))
    return made


def table_rows(report: str, title: str) -> dict[str, list[str]]:
    """Label to cells, of the table below the heading."""
    lines = report[report.index(f"# {title}\n") :].split("\n\n")[2 if title == "Answers" else 1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {label: values for label, *values in cells if set(label) != {"-"}}


def expected(values: list[float], sign: str = "") -> str:
    return f"{np.mean(values):{sign}.3f} +- {np.std(values, ddof=1):.3f}"


def of_row(row: Row, metric: str) -> list[float]:
    return [value(row.run, row.result, metric, seed) for seed in range(SEEDS)]


def test_every_row_has_a_run_that_makes_it() -> None:
    assert set(VARIANTS) <= set(PRESETS)
    asked = [row for question in QUESTIONS for row in (question.row, question.over)]
    for row in (*ROWS, *asked):
        assert row.result in RESULTS[row.run]
    # A4 is A6 without history, and needs no training of its own.
    assert set(PRESETS) - set(VARIANTS) == {"A4"}


def test_no_two_rows_of_a_table_are_the_same() -> None:
    for title, table in TABLES.items():
        assert len({(row.run, row.result) for row in table}) == len({row.label for row in table}) == len(table), title


def test_report_has_mean_and_deviation_over_the_seeds(study: Study, tmp_path: Path) -> None:
    report = write_report(study, SEEDS, tmp_path / "docs", "a machine").read_text()
    for title, rows in TABLES.items():
        found = table_rows(report, title)
        assert found.pop("") == list(RANKED)
        assert found == {row.label: [expected(of_row(row, metric)) for metric in RANKED] for row in rows}
    found = table_rows(report, "Per class, overall, and by rank")
    assert found.pop("") == [*PER_CLASS, *OTHERS]
    last = list(TABLES.values())[-1]
    assert found == {row.label: [expected(of_row(row, metric)) for metric in PER_CLASS + OTHERS] for row in last}
    assert f"{20 * len(RESULTS) * SEEDS // 60} minutes" in report
    assert "2 epochs, 3 seeds; 2 train, 1 test, of 2 users" in report.replace(" pictures", "")


def test_answers_are_differences_seed_by_seed(study: Study, tmp_path: Path) -> None:
    report = write_report(study, SEEDS, tmp_path / "docs", "a machine").read_text()
    found = table_rows(report, "Answers")
    assert found.pop("question") == ["difference"]
    assert len(found) == len(QUESTIONS)
    for question in QUESTIONS:
        pairs = zip(of_row(question.row, "precision@5"), of_row(question.over, "precision@5"), strict=True)
        assert found[question.text] == [expected([a - b for a, b in pairs], "+")]
    assert found["Does personalization pay? A2 over A1"] == ["+0.013 +- 0.060"]
    assert found["Is joint training better? A6 over A3"][0].endswith("+- 0.000"), "what all rows share cancels out"


def test_one_seed_has_no_deviation(study: Study, tmp_path: Path) -> None:
    report = write_report(study, 1, tmp_path / "docs", "a machine").read_text()
    assert set(re.findall(r"\+- (\d\.\d+)", report)) == {"0.000"}


def test_what_stands_above_the_mark_is_kept(study: Study, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    by_hand = "# Ours\n\nWhy the order differs: caf\u00e9.\n\n"
    (docs / "ablation.md").write_text(f"{by_hand}{mark(COMMAND)}\n\nold table\n", encoding="utf-8")
    first = write_report(study, SEEDS, docs, "a machine").read_text(encoding="utf-8")
    assert first.startswith(by_hand + mark(COMMAND))
    assert "old table" not in first
    assert write_report(study, SEEDS, docs, "a machine").read_text(encoding="utf-8") == first


def test_picture_and_numbers_are_written_beside(study: Study, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    report = write_report(study, SEEDS, docs, "a machine").read_text()
    assert sorted(path.name for path in docs.iterdir()) == ["ablation.json", "ablation.md", "ablation.png"]
    assert "(ablation.png)" in report
    with Image.open(docs / "ablation.png") as picture:
        assert picture.format == "PNG"
    assert min(count(docs / "ablation.png", colour) for colour in (HIT, MISS)) > 1000

    numbers = json.loads((docs / "ablation.json").read_text())
    assert set(numbers) == {f"{row.run}, {row.result}" for row in ROWS}
    for row in ROWS:
        assert numbers[f"{row.run}, {row.result}"] == {metric: of_row(row, metric) for metric in METRICS}


def test_a_result_of_other_settings_does_not_count(study: Study) -> None:
    assert all(study.is_done(run, seed) for run in RESULTS for seed in range(SEEDS))
    for other in (replace(study, epochs=3), replace(study, size="small"), replace(study, data="elsewhere")):
        assert not any(other.is_done(run, seed) for run in RESULTS for seed in range(SEEDS))
    assert not study.is_done("A6", SEEDS)


@pytest.mark.timing
def test_finished_runs_are_used_again(study: Study) -> None:
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(study.work).iterdir()}
    start = time.monotonic()
    carry_out(study, SEEDS, jobs=2)
    assert time.monotonic() - start < 2, "a single run takes longer to start"
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(study.work).iterdir()} == files


def test_a_run_that_fails_is_named_with_its_log_and_leaves_the_others(study: Study) -> None:
    gone = replace(study, data="/nowhere")
    for path in Path(study.work).iterdir():
        path.write_text(path.read_text().replace(study.data, gone.data))
    gone.result("A2", 0).unlink()
    finished = {path.name for path in Path(study.work).iterdir()}
    log = gone.result("A2", 0).with_suffix(".txt")
    with pytest.raises(TrainingError, match=f"^run A2, seed 0 failed: see {re.escape(str(log))}$"):
        carry_out(gone, SEEDS, jobs=1)
    assert log.read_text().startswith("error: no vocabulary at /nowhere/vocabulary.txt")
    assert len(log.read_text().splitlines()) == 1
    assert {path.name for path in Path(study.work).iterdir()} == {*finished, log.name}
