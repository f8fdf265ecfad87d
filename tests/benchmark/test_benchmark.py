import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmark.__main__ import main
from benchmark.peers.contestants import ENSEMBLE, RAW
from benchmark.report import COMMAND, bars
from benchmark.sections.peers import render_peers
from benchmark.settings import QUICK, SECTIONS
from measure.kept import mark
from tests.benchmark.loads import assert_a_figure_a_round, assert_hit_rates


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One section, measured; test_measured.py has all."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    assert main(["--quick", "--only", "cache", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def cache(out: Path) -> dict[str, Any]:
    return json.loads((out / "benchmarks.json").read_text())["cache"]


def test_every_load_has_a_figure_a_round(cache: dict[str, Any]) -> None:
    assert_a_figure_a_round(cache["load"])


def test_the_hit_rate_is_the_one_asked_for(cache: dict[str, Any]) -> None:
    assert_hit_rates(cache["load"]["folded"], {f"{rate:.0%} repeated": rate for rate in QUICK.hit_rates})


def test_report_has_the_section_that_was_measured(out: Path) -> None:
    report = (out / "benchmarks.md").read_text()
    for section, title in SECTIONS.items():
        heading = f"## {title}\n\n    .venv/bin/python -m benchmark --only {section} --quick"
        assert (heading in report) == (section == "cache")
    with Image.open(out / "benchmarks.png") as picture:
        assert picture.format == "PNG"


def test_report_has_every_section_in_the_readers_order(committed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "benchmarks.json").write_text(json.dumps(committed))
    assert main(["--render", "--out", str(tmp_path)]) == 0
    report = (tmp_path / "benchmarks.md").read_text()
    places = [
        report.index(f"## {title}\n\n    .venv/bin/python -m benchmark --only {section}")
        for section, title in SECTIONS.items()
        if section in committed
    ]
    waiting = SECTIONS.keys() - committed.keys()
    assert waiting <= {"shards", "gateway", "backfill", "canary"}, "all others have been measured"
    assert places == sorted(places)
    known, new = (of["models"]["int8"]["precision_at_5"] for of in committed["quality"]["users"].values())
    assert f"| int8 | {known:.4f} | {new:.4f} |" in report


def test_conditions_that_sections_share_are_said_once(committed: dict[str, Any], tmp_path: Path) -> None:
    for section, of in committed.items():
        if section != "format":
            of["conditions"]["machine"] = "a small machine" if section == "images" else "a machine"
    committed["cache"]["conditions"] |= {"preset": "small", "rounds": 7}
    (tmp_path / "benchmarks.json").write_text(json.dumps(committed))
    assert main(["--render", "--out", str(tmp_path)]) == 0
    report = (tmp_path / "benchmarks.md").read_text()
    assert report.count(": a machine\n") == report.count("\n- `images`: a small machine\n") == 1
    assert report.count("\n- `split`, `precision`: preset `paper` with random weights") == 1
    assert "\n- `cache`: preset `small` with random weights, a cache of 64 MiB, 7 rounds of" in report


def test_rendering_measures_nothing_and_keeps_what_is_written_by_hand(
    committed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    committed["split"]["load"]["folded"]["new picture, 1 client"]["p50_ms"] = [1000.0, 3000.0]
    committed["split"]["load"]["unfolded"]["new picture, 1 client"]["p50_ms"] = [4000.0, 3000.0]
    (tmp_path / "benchmarks.json").write_text(json.dumps(committed))
    (tmp_path / "benchmarks.md").write_text(f"# Ours\n\n{mark(COMMAND)}\nold\n")
    assert main(["--render", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'benchmarks.md'}\n"
    report = (tmp_path / "benchmarks.md").read_text()
    assert report.startswith(f"# Ours\n\n{mark(COMMAND)}\n")
    assert "old" not in report.splitlines()
    cells = "2,000 | 3,500 | 2.5 (1 to 4)"
    assert f"| new picture, 1 client: p50, ms | {cells} |" in report


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "measure first, with"),
        ("{", "expected results with format altreco-benchmarks-1"),
        ("{}", "its format is None"),
    ],
)
def test_no_results_to_render(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "benchmarks.json").write_text(content)
    assert main(["--render", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert len(said.splitlines()) == 1


def test_bars_are_drawn_longest_first_and_ours_apart(committed: dict[str, Any]) -> None:
    for name in (RAW, ENSEMBLE, "BentoML"):
        for clients in (4, 16, 32):
            rates = {RAW: [2.0, 9.0, 8.0], ENSEMBLE: [7.0, 1.0, 6.0]}.get(name, [5.0, 5.0, 9.0])
            committed["peers"]["load"][name][f"new picture, {clients} clients"]["requests_per_s"] = rates
    load = {name: committed["peers"]["load"][name] for name in ("BentoML", ENSEMBLE, RAW)}
    drawn = bars(load)
    ranked = (RAW, ENSEMBLE, "BentoML")
    names = [f"new picture, {clients} clients, {name}" for clients in (4, 16, 32) for name in ranked]
    assert [bar.label for bar in drawn] == names
    assert [bar.ours for bar in drawn] == [False, True, False] * 3
    assert [bar.place for bar in drawn] == [0, 1, 2, 3.5, 4.5, 5.5, 7, 8, 9]
    phases = bars(committed["cache"]["load"])
    assert [bar.ours for bar in phases] == [False, True, True, True]
    assert [bar.place for bar in phases] == [0, 1, 2, 3]


def test_a_repository_without_configs_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--only", "cache", "--repository", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "expected a Triton model repository" in capsys.readouterr().err
    assert not (tmp_path / "out" / "benchmarks.json").exists()


def test_a_cache_too_small_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--cache-size", "1000", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: a cache of 1000 bytes: expected at least 8388608\n"


def test_the_peers_ratios_are_taken_round_by_round(committed: dict[str, Any]) -> None:
    changed = committed["peers"]
    rates = {RAW: [20.0, 40.0, 50.0], ENSEMBLE: [20.0, 20.0, 40.0]}
    for name, of in changed["load"].items():
        of["new picture, 32 clients"] |= {"requests_per_s": rates.get(name, [10.0, 20.0, 40.0]), "all_p99_ms": 1234.0}
        of["new picture, 1 client"] |= {"all_p50_ms": 98.76}
    changed["memory"] = {name: {"pss": [1e6, 2e6, 4e6]} for name in changed["load"]}
    lines = render_peers(changed)
    assert f"| {ENSEMBLE} | 98.8 | 20 | 1 (1 to 1) | 1,234 | 2 |" in lines
    assert f"| {RAW} | 98.8 | 40 | 0.8 (0.5 to 1) | 1,234 | 2 |" in lines
    assert "| LitServe | 98.8 | 20 | 1 (1 to 2) | 1,234 | 2 |" in lines
    assert lines[-1] == ""
