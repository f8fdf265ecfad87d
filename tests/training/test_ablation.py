import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from measure.kept import mark
from tests.pixels import count
from training.ablation.__main__ import _parser, _parts, carry_out
from training.ablation.backbones import OTHERS, folder_of
from training.ablation.backbones import other as other_backbone
from training.ablation.parts import FEW, MAIN, POPULATIONS, Part, all_parts, main_part, with_crowd
from training.ablation.report import COMMAND, KEPT, write_report
from training.ablation.rows import (
    BACKBONES,
    BY_CONTEXT,
    FEW_PICTURES,
    MAIN_RUNS,
    METHODS,
    MODELS,
    POPULATION,
    QUESTIONS,
    TABLES,
    VARIANTS,
    Row,
)
from training.ablation.study import Study
from training.data.histories import build_histories
from training.data.manifest import SCHEMA, read_manifest
from training.data.synthetic import SyntheticSettings, generate
from training.errors import SettingsError, TrainingError
from training.evaluate import ANOTHER, FREQUENT, FUSION, HISTORIES, NEW, WITH, WITHOUT, fused
from training.figures import HIT, MISS
from training.methods import compare
from training.methods.compare import RUNS, lacking
from training.methods.task import Task
from training.model import ALTReco, VisualEncoder
from training.presets import VARIANTS as PRESETS
from training.presets import preset
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


@pytest.fixture
def parts(tmp_path: Path) -> list[Part]:
    """All of their runs are done."""
    work = tmp_path / "work"

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


def test_every_row_has_a_run_that_makes_it() -> None:
    assert set(VARIANTS) <= set(PRESETS)
    asked = [row for question in QUESTIONS for row in (question.row, question.over)]
    assert set(OF_METHODS) == set(RUNS)
    assert set(MAIN_RUNS) == {*VARIANTS, *BACKBONES, *RUNS}
    for row in (*ROWS, *FEW_PICTURES, *POPULATION, *asked, *BY_CONTEXT):
        assert row.run in MAIN_RUNS
        assert {row.method(history) for history in HISTORIES} <= set(methods(row.run))
    # A4 is A6 without history, and needs no training of its own.
    assert set(PRESETS) - set(VARIANTS) == {"A4"}


def test_no_two_rows_of_a_table_are_the_same() -> None:
    for table in (MODELS, FEW_PICTURES, POPULATION, *TABLES.values()):
        assert len({(row.run, row.result, row.fuses) for row in table}) == len({row.label for row in table})
        assert len({row.label for row in table}) == len(table)


def test_report_has_mean_and_deviation_over_the_seeds(parts: list[Part], tmp_path: Path) -> None:
    report = write_report(parts, SEEDS, tmp_path / "docs", "a machine").read_text(encoding="utf-8")
    new = (WITH, "1 picture", "2 pictures", "5 pictures", "10 pictures", WITHOUT, ANOTHER)
    known = (WITH, "1 picture", "5 pictures", WITHOUT, ANOTHER)
    for title, group, order in (("New users", NEW, new), ("Known users", "", known)):
        found = table_rows(report, title)
        assert found.pop("") == ["all pictures", *order[1:-2], "none", "another's"]
        assert found == {
            row.label: [expected(of_row(row, history=history, group=group)) for history in order] for row in MODELS
        }
    found = table_rows(report, "Every variant and method")
    assert found.pop("") == ["known users", "new users"]
    assert found == {
        row.label: [expected(of_row(row)), expected(of_row(row, group=NEW))] for row in ROWS if row not in MODELS
    }
    runs = len(MAIN_RUNS) + 5 + 2 * 2  # of the population study, two data sets are not the main one
    assert f"{runs * SEEDS} runs on a machine; their times add up to {20 * runs * SEEDS // 60} minutes" in report
    assert "| people-60 | 1 | 1 train, 1 validation, 1 test | 2 |" in report
    assert report.index("New users") < report.index("Known users") < report.index("Answers")


def test_report_of_many_users_and_of_more_and_more(parts: list[Part], tmp_path: Path) -> None:
    report = write_report(parts, SEEDS, tmp_path / "docs", "a machine").read_text(encoding="utf-8")
    few = table_rows(report, "Many users with twelve pictures each")
    assert set(few) == {"", *(row.label for row in FEW_PICTURES)}
    assert few["A6 + path"][1] == expected(of_row(Row("", "A6+path"), history="1 picture", group=NEW, data="users-300"))
    more = table_rows(report, "More training users")
    assert list(more)[1:] == [f"people-{n}: {row.label}" for n in (60, 360, 2060) for row in POPULATION]
    assert more["people-2060: A1 + hier"][0] == expected(of_row(Row("", "A1+hier"), group=NEW, data="people-2060"))
    assert more["people-360: A1 + path"][-1] == expected(of_row(Row("", "A1+path"), data="people-360"))


def test_parts_that_are_not_finished_are_named(parts: list[Part], tmp_path: Path) -> None:
    of_part = {part.name: part for part in parts}
    of_part[POPULATIONS].studies[-1].result("A1+hier", 2).unlink()
    report = write_report(parts, SEEDS, tmp_path / "docs", "a machine").read_text(encoding="utf-8")
    assert "More training users" not in report
    assert "Many users with twelve pictures each" in report
    assert report.rstrip().endswith("Not measured yet: population (`--only population`).")


def test_data_without_new_users_has_no_column_for_them(parts: list[Part], tmp_path: Path) -> None:
    """As a data set of one's own may be."""
    for path in Path(parts[0].studies[0].work).iterdir():
        content = json.loads(path.read_text())
        content["metrics"] = {name: of for name, of in content["metrics"].items() if not name.startswith(NEW)}
        path.write_text(json.dumps(content))
    report = write_report(parts[:1], SEEDS, tmp_path / "docs", "a machine").read_text(encoding="utf-8")
    assert "new" not in report[: report.index("## Answers")].lower()
    assert table_rows(report, "Answers").pop("question") == ["known users"]


def test_answers_are_differences_seed_by_seed(parts: list[Part], tmp_path: Path) -> None:
    report = write_report(parts, SEEDS, tmp_path / "docs", "a machine").read_text(encoding="utf-8")
    found = table_rows(report, "Answers")
    assert found.pop("question") == ["known users", "new users"]
    assert len(found) == len(QUESTIONS)
    for question in QUESTIONS:
        pairs = [
            zip(*(of_row(row, question.metric, group=group) for row in (question.row, question.over)), strict=True)
            for group in ("", NEW)
        ]
        assert found[question.text] == [expected([a - b for a, b in pair], "+") for pair in pairs]
    assert found["Joint training: A6, A3"][0].endswith("\u00b10.000"), "what all rows share cancels out"


def test_the_papers_tables_stand_beside_ours(parts: list[Part], tmp_path: Path) -> None:
    report = write_report(parts, SEEDS, tmp_path / "docs", "a machine").read_text(encoding="utf-8")
    table = papers_table(report, "Table IV")
    assert table[""] == ["precision@5", "recall@5", "accuracy@5"]
    raw = Row("", "contagnet-raw", compare.CONTEXT)
    theirs = zip(("0.25", "0.20", "0.71"), table[""], strict=True)
    assert table["ConTagNet"] == [f"{figure} / {expected(of_row(raw, metric))}" for figure, metric in theirs]
    assert table["CNN (AlexNet)"] == ["0.21 / -", "0.18 / -", "0.65 / -"]
    assert "CNN (AlexNet) and CNN-CTC: not here, as it is A1 on an older network." in report
    assert papers_table(report, "Table V")["DLSR"][0].startswith("- / 0.")
    a6 = papers_table(report, "Table VIII")["A6"]
    theirs, ours = zip(*(cell.split(" / ") for cell in a6), strict=True)
    assert " ".join(theirs) == "0.66 0.52 0.35 0.48 0.58 0.70 0.95 0.97 0.98"
    assert list(ours)[:2] == [expected(of_row(Row("", "A6"), f"precision@{k}")) for k in (3, 5)]


def papers_table(report: str, title: str) -> dict[str, list[str]]:
    """Row to cells of one of the paper's tables."""
    lines = report[report.index(f"### {title}\n") :].split("\n\n")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {label: values for label, *values in cells}


def test_figures_by_context_are_those_of_known_users(parts: list[Part], tmp_path: Path) -> None:
    report = write_report(parts, SEEDS, tmp_path / "docs", "a machine").read_text(encoding="utf-8")
    found = papers_table(report.replace("## By context", "### By context"), "By context")
    assert found[""] == list(compare.BY_CONTEXT)
    for row in BY_CONTEXT:
        metrics = [f"precision@5, {name}" for name in compare.BY_CONTEXT]
        assert found[row.label] == [expected(of_row(row, metric)) for metric in metrics]


def test_what_data_lacks_leaves_rows_out_and_says_so(parts: list[Part], tmp_path: Path) -> None:
    data = Path(parts[0].studies[0].data)
    left_out = {**lacking(read_manifest(data)), **dict.fromkeys(BACKBONES, "one is enough")}
    assert set(left_out) == {"contagnet-raw", "contagnet-cyclic", "clare", *BACKBONES}
    part = main_part(parts[0].studies[0], left_out)
    for run in left_out:
        for seed in range(SEEDS):
            part.studies[0].result(run, seed).unlink()
    assert part.is_done(SEEDS)
    report = write_report([part], SEEDS, tmp_path / "docs", "a machine").read_text(encoding="utf-8")
    assert f"Left out: clare: {data}: CLARE needs class labels of training pictures" in report
    assert "Left out: A1@convnext: one is enough." in report
    assert papers_table(report, "Table VI")["CLARE"] == ["0.21 / -", "0.16 / -", "0.14 / -"]
    assert "By context" not in report
    assert "permuted" not in report[: report.index("Left out")]


def test_one_seed_has_no_deviation(parts: list[Part], tmp_path: Path) -> None:
    report = write_report(parts, 1, tmp_path / "docs", "a machine").read_text(encoding="utf-8")
    assert set(re.findall("\u00b1(\\d\\.\\d+)", report)) == {"0.000"}


def test_what_stands_above_the_mark_is_kept(parts: list[Part], tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    by_hand = "# Ours\n\nWhy the order differs: caf\u00e9.\n\n"
    (docs / "ablation.md").write_text(f"{by_hand}{mark(COMMAND)}\n\nold table\n", encoding="utf-8")
    first = write_report(parts, SEEDS, docs, "a machine").read_text(encoding="utf-8")
    assert first.startswith(by_hand + mark(COMMAND))
    assert "old table" not in first
    assert write_report(parts, SEEDS, docs, "a machine").read_text(encoding="utf-8") == first


def test_picture_and_numbers_are_written_beside(parts: list[Part], tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    report = write_report(parts, SEEDS, docs, "a machine").read_text(encoding="utf-8")
    assert sorted(path.name for path in docs.iterdir()) == ["ablation.json", "ablation.md", "ablation.png"]
    assert "(ablation.png)" in report
    with Image.open(docs / "ablation.png") as picture:
        assert picture.format == "PNG"
    assert min(count(docs / "ablation.png", colour) for colour in (HIT, MISS)) > 1000

    numbers = json.loads((docs / "ablation.json").read_text())
    assert set(numbers) == {"people-60", "users-300", "people-360", "people-2060"}
    for row in ROWS:
        for group in ("", NEW):
            kept = numbers["people-60"][f"{row.run}, {group}{row.method(WITH)}"]
            assert {metric: kept[metric] for metric in KEPT} == {m: of_row(row, m, group=group) for m in KEPT}


def test_a_result_of_other_settings_does_not_count(parts: list[Part]) -> None:
    assert all(part.is_done(SEEDS) for part in parts)
    (study,), runs = parts[0].studies, parts[0].runs
    for other in (replace(study, epochs=3), replace(study, size="small"), replace(study, data="elsewhere")):
        assert not any(other.is_done(run, seed) for run in runs for seed in range(SEEDS))
    assert not study.is_done("A6", SEEDS)


def test_a_result_from_before_an_option_existed_counts(parts: list[Part]) -> None:
    (study,) = parts[0].studies
    path = study.result("A6", 0)
    content = json.loads(path.read_text())
    start = f"{study.data} A6 "
    settings = json.loads(content["settings"].removeprefix(start))
    for name in ("warmup_steps", "max_grad_norm", "accumulate"):
        del settings[name]
    for name in ("mean", "std", "size"):
        del settings["model"]["backbone"][name]
    path.write_text(json.dumps({**content, "settings": f"{start}{json.dumps(settings)}"}))
    assert study.is_done("A6", 0)
    path.write_text(json.dumps({**content, "settings": f"{start}{json.dumps({**settings, 'accumulate': 2})}"}))
    assert not study.is_done("A6", 0)


def test_the_population_study_shares_the_main_runs(parts: list[Part]) -> None:
    of_part = {part.name: part for part in parts}
    assert set(of_part) == {MAIN, FEW, POPULATIONS}
    assert of_part[POPULATIONS].studies[0] == of_part[MAIN].studies[0]
    assert set(of_part[POPULATIONS].runs) <= set(of_part[MAIN].runs)
    assert [study.epochs for study in of_part[POPULATIONS].studies] == [2, 2, 1]


def test_a_smaller_crowd_has_the_same_pictures_of_everybody_else(tmp_path: Path) -> None:
    people = SyntheticSettings(
        pictures=12, users=2, new_users=1, validation_users=1, crowd=3, pool=20, tags=200, test_share=0.2
    )
    whole = generate(tmp_path / "people", people, processes=1, quiet=True)
    none, two = (read_manifest(with_crowd(whole, tmp_path / f"crowd-{n}", n)) for n in (0, 2))
    assert sorted(none.user_names) == ["user000", "user001", "user002", "user003"]
    assert list(two.user_names) == [*none.user_names, "crowd0000", "crowd0001"]
    everything = read_manifest(whole)
    for manifest in (none, two):
        for row in (0, len(manifest.split) - 1):
            assert (manifest.root / manifest.images[row]).read_bytes() == (
                everything.root / everything.images[row]
            ).read_bytes()
        assert build_histories(manifest).is_new.sum() == 2
    np.testing.assert_array_equal(none.split, everything.split[: len(none.split)])


@pytest.mark.timing
def test_finished_runs_are_used_again(parts: list[Part], tmp_path: Path) -> None:
    results = sorted((tmp_path / "work").rglob("*.json"))
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results}
    start = time.monotonic()
    carry_out(parts, SEEDS, jobs=2)
    assert time.monotonic() - start < 2, "a single run takes longer to start"
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results} == files


def test_a_run_that_fails_is_named_with_its_log_and_leaves_the_others(parts: list[Part], tmp_path: Path) -> None:
    gone = [
        replace(part, studies=tuple(replace(study, data="/nowhere") for study in part.studies)) for part in parts[:1]
    ]
    (study,) = gone[0].studies
    for path in Path(study.work).iterdir():
        path.write_text(path.read_text().replace(parts[0].studies[0].data, study.data))
    study.result("A2", 0).unlink()
    finished = {path.name for path in Path(study.work).iterdir()}
    log = study.result("A2", 0).with_suffix(".txt")
    with pytest.raises(TrainingError, match=f"^run A2, seed 0 failed: see {re.escape(str(log))}$"):
        carry_out(gone, SEEDS, jobs=1)
    assert log.read_text().startswith("error: no vocabulary at /nowhere/vocabulary.txt")
    assert len(log.read_text().splitlines()) == 1
    assert {path.name for path in Path(study.work).iterdir()} == {*finished, log.name}


@pytest.mark.parametrize("name", OTHERS)
def test_another_backbone_is_read_from_beside_the_studys(parts: list[Part], tmp_path: Path, name: str) -> None:
    torch.manual_seed(1)
    made = VisualEncoder(other_backbone(name, preset("ablation/A1").model.backbone))
    made.backbone.save_pretrained(folder_of(str(tmp_path / "backbone"), name))
    study = replace(parts[0].studies[0], backbone=str(tmp_path / "backbone"))
    backbone = study.settings(f"A1@{name}", 0).model.backbone
    assert backbone.weights is not None
    read = VisualEncoder(backbone)
    read.load_pretrained(backbone.weights)
    weights = read.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in made.state_dict().items())
    with torch.inference_mode():
        encoding = read.eval()(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert encoding.shape == (1, read.channels, 7, 7)


@pytest.mark.slow
def test_methods_measure_what_the_report_asks_for(tmp_path: Path) -> None:
    """Each method on a few pictures, with the features of a visual net that was not trained."""
    people = SyntheticSettings(
        pictures=60, users=4, new_users=2, validation_users=2, tags=300, test_share=0.2, context=True
    )
    manifest = read_manifest(generate(tmp_path / "data", people, processes=1, quiet=True))
    settings = preset("ablation/A1", epochs=1)
    network = ALTReco(settings.model, 300)
    task = Task(network, manifest, build_histories(manifest), settings, torch.device("cpu"), workers=0)
    for run, measure in RUNS.items():
        measured = measure(task)
        assert set(methods(run)) <= {*measured, fused(WITHOUT), f"{NEW}{fused(WITHOUT)}"}
        for of_method in measured.values():
            assert 0 <= of_method["precision@5"] <= 1
        if "contagnet" in run:
            assert set(measured[compare.CONTEXT]) >= {f"precision@5, {name}" for name in compare.BY_CONTEXT[2:]}


@pytest.mark.slow
def test_runs_measure_what_the_report_asks_for(tmp_path: Path) -> None:
    """The path and the comparison methods, really trained, on a few pictures."""
    people = SyntheticSettings(
        pictures=60, users=4, new_users=2, validation_users=2, crowd=2, pool=30, tags=200, test_share=0.2
    )
    data = generate(tmp_path / "data", people, processes=1, quiet=True)
    study = Study(
        size="ablation",
        data=str(data),
        work=str(tmp_path / "work"),
        backbone="",
        epochs=1,
        workers=0,
        device="cpu",
    )
    part = Part(MAIN, (study,), ("A1", "A1+path", METHODS))
    carry_out([part], seeds=1, jobs=2)
    for run in part.runs:
        assert set(methods(run)) <= set(study.metrics(run, 0)) | {fused(WITHOUT), f"{NEW}{fused(WITHOUT)}"}


def test_data_of_ones_own_has_the_main_part_only(tmp_path: Path) -> None:
    write_data(tmp_path)
    given = ["--data", str(tmp_path), "--backbone", ""]
    (part,) = _parts(_parser().parse_args(given))
    assert (part.name, part.studies[0].data) == (MAIN, str(tmp_path))
    assert set(MAIN_RUNS) - set(part.runs) == {*BACKBONES, "contagnet-raw", "contagnet-cyclic", "clare"}
    with pytest.raises(SettingsError, match="--data takes the place of generated data: expected --only main"):
        _parts(_parser().parse_args([*given, "--only", "population"]))
