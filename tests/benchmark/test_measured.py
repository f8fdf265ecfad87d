"""Every section of the benchmark, measured once for all of these tests."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmark.peers.contestants import ENSEMBLE, RAW, THREE_CALLS
from benchmark.sections.client import IMPORTS, IN_FLIGHT
from benchmark.sections.overhead import BESIDE
from benchmark.settings import QUICK, SECTIONS
from tests.benchmark.loads import assert_a_figure_a_round, assert_hit_rates

pytestmark = pytest.mark.slow

E_CHANNELS = 256  # of the small preset's visual encoder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    command = [sys.executable, "-m", "benchmark", "--quick", "--work", folder / "work", "--out", folder / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out"


@pytest.fixture(scope="module")
def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "benchmarks.json").read_text())


def test_every_load_has_a_figure_a_round(results: dict[str, Any]) -> None:
    loads = {section: results[section]["load"] for section in ("split", "precision", "cache")}
    assert {section: set(load) for section, load in loads.items()} == {
        "split": {"folded", "unfolded"},
        "precision": {"fp32", "int8"},
        "cache": {"folded"},
    }
    for load in loads.values():
        assert_a_figure_a_round(load)


def test_bytes_between_the_models_are_those_of_the_shapes(results: dict[str, Any]) -> None:
    assert results["split"]["bytes_between_models"] == {"folded": 4 * 64 * 7 * 7, "unfolded": 4 * E_CHANNELS * 7 * 7}


def test_a_cache_holds_as_many_encodings_as_it_has_room_for(results: dict[str, Any]) -> None:
    held = {name: of["pictures"] for name, of in results["split"]["cache"].items()}
    for pictures in held.values():
        assert 0.8 * QUICK.capacity_encodings <= pictures <= QUICK.capacity_encodings


def test_both_splits_answer_the_same(results: dict[str, Any]) -> None:
    assert 0 < results["split"]["max_abs_difference"] < 1e-4


def test_the_hit_rate_is_the_one_asked_for(results: dict[str, Any]) -> None:
    assert_hit_rates(results["split"]["load"]["folded"], {"new picture": 0.0, "repeat picture": 1.0})


def test_a_candidate_takes_memory_beside_the_release(results: dict[str, Any]) -> None:
    memory = results["canary"]["memory_bytes"]
    assert [both > one for one, both in zip(memory["release"], memory["both"], strict=True)] == [True] * QUICK.rounds


def test_int8_is_smaller_and_every_precision_is_judged(results: dict[str, Any]) -> None:
    sizes = {name: sum(of.values()) for name, of in results["precision"]["bytes"].items()}
    assert sizes["int8"] < sizes["fp32"]
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert {name: len(values) for name, values in results["precision"]["loading_s"].items()} == {
        "fp32": QUICK.rounds,
        "int8": QUICK.rounds,
    }
    assert set(results["quality"]["users"]) == {"known users", "new users"}
    for judged in (of["models"] for of in results["quality"]["users"].values()):
        assert set(judged) == {"checkpoint", "fp32", "fp16", "int8"}
        assert judged["fp32"]["max_abs_difference"] < 1e-4
        assert judged["fp32"]["same_five"] == 1


def test_report_has_every_section_with_its_command_and_figures(out: Path, results: dict[str, Any]) -> None:
    report = (out / "benchmarks.md").read_text()
    for section, title in SECTIONS.items():
        assert f"## {title}\n\n    .venv/bin/python -m benchmark --only {section} --quick" in report
    assert "| bytes per picture between the models | 12,544 | 50,176 | 4.0 |" in report
    assert "\n| int8 | 0." in report
    with Image.open(out / "benchmarks.png") as picture:
        assert picture.format == "PNG"


def test_the_peers_are_all_there_each_in_its_best_way(results: dict[str, Any]) -> None:
    section = results["peers"]
    names = [RAW, ENSEMBLE, THREE_CALLS, "FastAPI + PyTorch", "LitServe", "BentoML"]
    assert list(section["load"]) == list(section["memory"]) == names
    for name in names:
        assert list(section["load"][name]) == ["new picture, 1 client", "new picture, 3 clients"]
    for name, tried in section["tried"].items():
        assert section["tunings"][name].startswith(max(tried, key=tried.__getitem__))
    assert section["max_abs_difference"] < 1e-5
    assert list(section["repeat"]) == [ENSEMBLE]


def test_raw_onnx_runtime_is_measured_alone_and_beside_a_busy_process(results: dict[str, Any]) -> None:
    section = results["overhead"]
    assert list(section["turns"]) == [ENSEMBLE, RAW, BESIDE]
    for turn in section["turns"].values():
        assert len(turn["requests_per_s"]) == QUICK.peers.rounds
        assert min(turn["requests_per_s"]) > 0
    used = section["turns"][ENSEMBLE]
    assert min(used["clients_cores"]) > 0
    assert min(used["server_cores"]) > 0


def test_both_clients_have_a_figure_a_round(results: dict[str, Any]) -> None:
    section = results["client"]
    assert set(section["ms"]) == {"tritonclient", "altreco_client"}
    assert set(section["users_ms"]) == {"recommend, one by one", "recommend_batch", "recommend_for_users"}
    assert set(section["import_s"]) == set(IMPORTS)
    for figures in (section["ms"], section["users_ms"], section["import_s"]):
        assert {len(values) for values in figures.values()} == {QUICK.rounds}
        assert min(min(values) for values in figures.values()) > 0
    assert section["calls"] == QUICK.client_calls


def test_the_gateway_and_the_client_have_a_figure_a_round(results: dict[str, Any]) -> None:
    section = results["gateway"]
    for turns in (section["turns"], section["open"]["turns"], section["apart"]["turns"]):
        assert set(turns) == {"altreco_client", "gateway"}
        for figures in turns.values():
            assert {len(values) for values in figures.values()} == {QUICK.rounds}
            assert min(min(values) for values in figures.values()) > 0


def test_a_backfill_and_what_live_callers_notice_have_a_figure_a_round(results: dict[str, Any]) -> None:
    section = results["backfill"]
    assert len(section["per_s"]) == 2
    assert len(section["live_p99_ms"]) == 3
    for figures in (section["per_s"], section["live_p99_ms"]):
        assert {len(values) for values in figures.values()} == {QUICK.rounds}
        assert min(min(values) for values in figures.values()) > 0


def test_all_requests_in_flight_are_answered(results: dict[str, Any]) -> None:
    assert results["client"]["in_flight"]["requests"] == IN_FLIGHT
    assert results["client"]["in_flight"]["seconds"] > 0


def test_every_photo_is_timed_in_both_ways(results: dict[str, Any]) -> None:
    photos = results["images"]["photos"]
    assert [round(of["megapixels"]) for of in photos.values()] == [3, 3, 3, 12, 3]
    assert photos["much detail"]["bytes"] > photos["some detail"]["bytes"] > photos["little detail"]["bytes"]
    for of in photos.values():
        assert set(of["ms"]) == {"main", "worker"}
        for times in of["ms"].values():
            assert {name: len(values) for name, values in times.items()} == {"plain": 2, "reduced": 2}
            assert min(times["plain"] + times["reduced"]) > 0


def test_the_tensors_differ_little_but_differ(results: dict[str, Any]) -> None:
    for of in results["images"]["photos"].values():
        assert 0 < of["mean_abs_difference"] <= 2
        assert of["max_abs_difference"] <= 16


def test_all_pictures_are_ranked_in_all_ways(results: dict[str, Any]) -> None:
    enlarged = results["images"]["enlarged"]
    assert enlarged["pictures"] == 8
    values = enlarged["precision_at_5"]
    assert set(values) == {"as it is", "plain", "reduced"}
    assert all(0 <= value <= 1 for value in values.values())
    assert enlarged["mean_bytes"] > 100_000
