"""The report of an ablation study."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from measure.kept import mark
from tests.pixels import count
from tests.training.ablation import ROWS, SEEDS, expected, finished_parts, of_row, papers_table, table_rows
from training.ablation.parts import POPULATIONS, Part, main_part
from training.ablation.report import COMMAND, KEPT, write_report
from training.ablation.rows import BACKBONES, BY_CONTEXT, FEW_PICTURES, MAIN_RUNS, MODELS, POPULATION, QUESTIONS, Row
from training.data.manifest import read_manifest
from training.evaluate import ANOTHER, NEW, WITH, WITHOUT
from training.figures import HIT, MISS
from training.methods import compare
from training.methods.compare import lacking


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of finished parts, with its picture and numbers."""
    folder = tmp_path_factory.mktemp("ablation")
    write_report(finished_parts(folder / "work"), SEEDS, folder / "docs", "a machine")
    return folder / "docs"


@pytest.fixture(scope="module")
def report(docs: Path) -> str:
    return (docs / "ablation.md").read_text(encoding="utf-8")


def test_report_has_mean_and_deviation_over_the_seeds(report: str) -> None:
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


def test_report_of_many_users_and_of_more_and_more(report: str) -> None:
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


def test_answers_are_differences_seed_by_seed(report: str) -> None:
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


def test_the_papers_tables_stand_beside_ours(report: str) -> None:
    table = papers_table(report, "Table IV")
    assert table[""] == ["precision@5", "recall@5", "accuracy@5"]
    raw = Row("", "contagnet-raw", compare.CONTEXT)
    theirs = zip(("0.25", "0.20", "0.71"), table[""], strict=True)
    assert table["ConTagNet"] == [f"{figure} / {expected(of_row(raw, metric))}" for figure, metric in theirs]
    assert table["CNN (AlexNet)"] == ["0.21 / -", "0.18 / -", "0.65 / -"]
    assert "CNN (AlexNet) and CNN-CTC: not here, as each is A1 on an older network." in report
    assert papers_table(report, "Table V")["DLSR"][0].startswith("- / 0.")
    a6 = papers_table(report, "Table VIII")["A6"]
    theirs, ours = zip(*(cell.split(" / ") for cell in a6), strict=True)
    assert " ".join(theirs) == "0.66 0.52 0.35 0.48 0.58 0.70 0.95 0.97 0.98"
    assert list(ours)[:2] == [expected(of_row(Row("", "A6"), f"precision@{k}")) for k in (3, 5)]


def test_figures_by_context_are_those_of_known_users(report: str) -> None:
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
    by_hand = "# Ours\n\nWhy the order differs: caf\u00e9.\n\n"
    (tmp_path / "ablation.md").write_text(f"{by_hand}{mark(COMMAND)}\n\nold table\n", encoding="utf-8")
    first = write_report(parts, SEEDS, tmp_path, "a machine").read_text(encoding="utf-8")
    assert first.startswith(by_hand + mark(COMMAND))
    assert "old table" not in first
    assert write_report(parts, SEEDS, tmp_path, "a machine").read_text(encoding="utf-8") == first


def test_picture_and_numbers_are_written_beside(docs: Path, report: str) -> None:
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
