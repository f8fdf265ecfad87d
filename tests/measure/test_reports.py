"""Files, kept results, tables and numbers, and the description of the machine."""

import json
import os
import re
from pathlib import Path

import pytest

from measure.files import write_bytes, write_text
from measure.kept import ResultsError, mark, read_results, write_below, write_results
from measure.machine import describe_machine, revision, versions
from measure.markdown import cell, compared, mib, ms, number, ratios, seconds, table
from measure.pictures import new_figure, to_svg
from measure.waiting import wait_until

FORMAT = "altreco-test-1"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "grün")
    assert (tmp_path / "text").read_text(encoding="utf-8") == "grün"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_bytes(tmp_path / "folder", b"content")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "text"]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert read_results(path, FORMAT) == {}
    write_results(path, FORMAT, {"split": {"p50_ms": [1.5]}})
    assert json.loads(path.read_text()) == {"format": FORMAT, "split": {"p50_ms": [1.5]}}
    assert read_results(path, FORMAT) == {"split": {"p50_ms": [1.5]}}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": "altreco-test-2"}'])
def test_damaged_and_foreign_results_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ResultsError, match=rf"results\.json: expected results with format {FORMAT}.*measure again"):
        read_results(tmp_path / "results.json", FORMAT)


def test_what_is_written_by_hand_above_the_mark_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    assert write_below(path, "Title", "make it", ["first"]) == path
    assert path.read_text() == f"# Title\n\n{mark('make it')}\n\nfirst"
    path.write_text(path.read_text().replace("# Title", "# By hand\n\nKept."))
    write_below(path, "Title", "make it", ["second"])
    assert path.read_text() == f"# By hand\n\nKept.\n\n{mark('make it')}\n\nsecond"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123, "0.00123"),
        (1.234, "1.23"),
        (45.67, "45.7"),
        (99.96, "100"),
        (-123.4, "-123"),
        (1e6, "1,000,000"),
    ],
)
def test_a_number_has_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_figures_have_units() -> None:
    assert (seconds(1.234), ms(12.34), mib(3 * 1024**2)) == ("1.23 s", "12.3 ms", "3 MiB")


def test_a_table_escapes_what_would_end_a_cell() -> None:
    assert table(["", "a|b"], [["x\ny", "1"]]) == ["|  | a\\|b |", "|---|---|", "| x y | 1 |"]


def test_contestants_are_compared_round_by_round() -> None:
    values = {"one": [2.0, 4.0, 5.0], "other": [4.0, 4.0, 5.0]}
    assert ratios(values["one"], values["other"]) == [2, 1, 1]
    assert cell(values["one"]) == "4 (2 to 5)"
    assert compared("p50", values, "one", "other") == ["p50", "4", "4", "1 (1 to 2)"]


def test_the_machine_and_versions_are_named() -> None:
    assert re.match(rf"{len(os.sched_getaffinity(0))} cores of .+, \d+ GiB of memory$", describe_machine())
    found = versions(["numpy"])
    assert set(found) == {"python", "numpy"}
    assert re.match(r"3\.\d+\.\d+", found["python"])
    found_revision = revision()
    assert (found_revision is None) is not (Path(__file__).parents[2] / ".git").exists()
    assert found_revision is None or re.match(r"[0-9a-f]{40}(, with changes)?$", found_revision)


def test_waiting_ends_when_the_condition_holds_or_says_what_it_waited_for() -> None:
    turns = iter([False, False, True])
    assert wait_until(lambda: next(turns), "the third turn", poll_s=0.001) < 5
    with pytest.raises(TimeoutError, match=r"not within 0\.05 s: a miracle"):
        wait_until(lambda: False, "a miracle", seconds=0.05)


def test_two_dollar_signs_in_a_picture_are_no_formula() -> None:
    figure = new_figure(1)
    figure.text(0, 0, r"a$b_, \x$")
    assert r"a$b_, \x$" in to_svg(figure)
