import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.peers.contestants import ENSEMBLE, RAW, THREE_CALLS
from benchmark.peers_section import render_peers
from benchmark.report import COMMAND
from benchmark.settings import QUICK, SECTIONS
from measure.kept import mark

PER_ROUND = {"p50_ms", "p99_ms", "requests_per_s", "hit_rate"}
E_CHANNELS = 256  # of the small preset's visual encoder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *arguments], capture_output=True, text=True, check=False, env=ENV
    )


ENV = {**os.environ, "PYTHONPATH": "."}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    done = run("--quick", "--work", str(folder / "work"), "--out", str(folder / "out"))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out"


@pytest.fixture(scope="module")
def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "benchmarks.json").read_text())


@pytest.fixture
def copy(out: Path, tmp_path: Path) -> Path:
    (tmp_path / "benchmarks.json").write_bytes((out / "benchmarks.json").read_bytes())
    return tmp_path


def test_every_load_has_a_figure_a_round(results: dict[str, Any]) -> None:
    loads = {section: results[section]["load"] for section in ("split", "precision", "cache")}
    assert {section: set(load) for section, load in loads.items()} == {
        "split": {"folded", "unfolded"},
        "precision": {"fp32", "int8"},
        "cache": {"folded"},
    }
    for load in loads.values():
        for figures in (figures for phases in load.values() for figures in phases.values()):
            assert set(figures) == PER_ROUND
            assert {len(values) for values in figures.values()} == {QUICK.rounds}
            assert min(figures["p50_ms"]) > 0
            assert all(p99 >= p50 for p50, p99 in zip(figures["p50_ms"], figures["p99_ms"], strict=True))
            assert min(figures["requests_per_s"]) > 0


def test_bytes_between_the_models_are_those_of_the_shapes(results: dict[str, Any]) -> None:
    assert results["split"]["bytes_between_models"] == {"folded": 4 * 64 * 7 * 7, "unfolded": 4 * E_CHANNELS * 7 * 7}


def test_a_cache_holds_as_many_encodings_as_it_has_room_for(results: dict[str, Any]) -> None:
    held = {name: of["pictures"] for name, of in results["split"]["cache"].items()}
    for pictures in held.values():
        assert 0.8 * QUICK.capacity_encodings <= pictures <= QUICK.capacity_encodings
    for size, pictures in results["cache"]["pictures_by_size"].items():
        room = int(size) / (4 * 64 * 7 * 7)
        assert 0.8 * room <= pictures <= room


def test_both_splits_answer_the_same(results: dict[str, Any]) -> None:
    assert 0 < results["split"]["max_abs_difference"] < 1e-4


def test_the_hit_rate_is_the_one_asked_for(results: dict[str, Any]) -> None:
    split, cache = results["split"]["load"]["folded"], results["cache"]["load"]["folded"]
    asked = {f"{kind} picture": rate for kind, rate in (("new", 0.0), ("repeat", 1.0))}
    asked |= {f"{rate:.0%} repeated": rate for rate in QUICK.hit_rates}
    measured = {name.partition(",")[0]: figures["hit_rate"] for name, figures in (split | cache).items()}
    assert set(measured) == set(asked)
    for name, rate in asked.items():
        assert measured[name] == pytest.approx([rate] * QUICK.rounds, abs=0.15), name


def test_a_repeat_picture_is_answered_sooner(results: dict[str, Any]) -> None:
    load = results["split"]["load"]["folded"]
    assert np.median(load["repeat picture, 1 client"]["p50_ms"]) < np.median(load["new picture, 1 client"]["p50_ms"])


def test_int8_is_smaller_and_every_precision_is_judged(results: dict[str, Any]) -> None:
    sizes = {name: sum(of.values()) for name, of in results["precision"]["bytes"].items()}
    assert sizes["int8"] < sizes["fp32"]
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert {name: len(values) for name, values in results["precision"]["loading_s"].items()} == {
        "fp32": QUICK.rounds,
        "int8": QUICK.rounds,
    }
    judged = results["quality"]["precision_at_5"]
    assert set(judged) == {"checkpoint", "fp32", "fp16", "int8"}
    assert judged["fp32"] == pytest.approx(judged["checkpoint"], abs=1e-6)


def test_report_has_every_section_with_its_command_and_figures(out: Path, results: dict[str, Any]) -> None:
    report = (out / "benchmarks.md").read_text()
    for section, title in SECTIONS.items():
        assert f"## {title}\n\n    .venv/bin/python -m benchmark --only {section} --quick" in report
    assert "| bytes between the models, a picture | 12,544 | 50,176 | 4.0 |" in report
    assert f"| int8 | {results['quality']['precision_at_5']['int8']:.4f} |" in report
    with Image.open(out / "benchmarks.png") as picture:
        assert picture.format == "PNG"


def test_rendering_measures_nothing_and_keeps_what_is_written_by_hand(copy: Path, results: dict[str, Any]) -> None:
    results = json.loads(json.dumps(results))
    results["split"]["load"]["folded"]["new picture, 1 client"]["p50_ms"] = [1000.0, 3000.0]
    results["split"]["load"]["unfolded"]["new picture, 1 client"]["p50_ms"] = [4000.0, 3000.0]
    (copy / "benchmarks.json").write_text(json.dumps(results))
    (copy / "benchmarks.md").write_text(f"# Ours\n\n{mark(COMMAND)}\nold\n")
    done = run("--render", "--out", str(copy))
    assert (done.returncode, done.stdout) == (0, f"wrote {copy / 'benchmarks.md'}\n")
    report = (copy / "benchmarks.md").read_text()
    assert report.startswith(f"# Ours\n\n{mark(COMMAND)}\n")
    assert "old" not in report.splitlines()
    cells = "2,000 (1,000 to 3,000) | 3,500 (3,000 to 4,000) | 2.5 (1 to 4)"
    assert f"| new picture, 1 client: p50, ms | {cells} |" in report


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "measure first, with"),
        ("{", "expected results with format altreco-benchmarks-1"),
        ("{}", "its format is None"),
    ],
)
def test_no_results_to_render(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "benchmarks.json").write_text(content)
    done = run("--render", "--out", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_repository_without_configs_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = run("--quick", "--only", "cache", "--repository", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "expected a Triton model repository" in done.stderr
    assert not (tmp_path / "out" / "benchmarks.json").exists()


def test_a_cache_too_small_is_refused(tmp_path: Path) -> None:
    done = run("--quick", "--cache-size", "1000", "--out", str(tmp_path))
    assert (done.returncode, done.stderr) == (1, "error: a cache of 1000 bytes: expected at least 8388608\n")


def test_the_peers_are_all_there_each_in_its_best_way(results: dict[str, Any]) -> None:
    section = results["peers"]
    names = [RAW, ENSEMBLE, THREE_CALLS, "FastAPI + PyTorch", "LitServe", "BentoML"]
    assert list(section["load"]) == list(section["memory"]) == list(section["wire"]) == names
    for name in names:
        assert list(section["load"][name]) == ["new picture, 1 client", "new picture, 3 clients"]
    for name, tried in section["tried"].items():
        assert section["tunings"][name].startswith(max(tried, key=tried.__getitem__))
    assert section["max_abs_difference"] < 1e-5


def test_the_peers_ratios_are_taken_round_by_round(results: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(results["peers"]))
    rates = {RAW: [20.0, 40.0, 50.0], ENSEMBLE: [20.0, 20.0, 40.0]}
    for name, of in changed["load"].items():
        of["new picture, 3 clients"] |= {"requests_per_s": rates.get(name, [10.0, 20.0, 40.0]), "all_p99_ms": 1234.0}
        of["new picture, 3 clients"] |= {"all_p50_ms": 98.76, "requests": 4321, "client_cores": [0.1, 0.2, 0.3]}
    lines = render_peers(changed)
    text = "\n".join(lines)
    assert "Saturated (3 clients), the ensemble does 0.8 (0.5 to 1) of what raw ONNX Runtime does" in text
    assert "1 (1 to 2) of LitServe" in text
    assert f"| {ENSEMBLE} | 20 (20 to 40) | 98.8 | 1,234 | 4,321 | 0.20 |" in lines
    assert f"| {RAW} | 40 (20 to 50) | 98.8 | 1,234 | 4,321 |  |" in lines
    assert lines[-1] == ""
