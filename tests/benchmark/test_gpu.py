"""`make gpu`: what it says of a machine, what it keeps, and all of its stages at tiny size on a CPU."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.gpu.__main__ import MEASURES, main
from benchmark.gpu.environment import CPU, CUDA, ONNXRUNTIME, TORCH, TRITON, Found, problems
from benchmark.gpu.report import FORMAT, RENDERERS, RESULTS, render_gpu
from benchmark.gpu.settings import STAGES, TINY
from measure.kept import write_results

ROOT = Path(__file__).parents[2]
READY = Found(
    gpus=("NVIDIA H200, 580.159.03, 143771 MiB",),
    onnxruntime=("onnxruntime-gpu 1.32.0",),
    built_for="12.8",
    providers=(CUDA, CPU),
    torch="2.11.0+cu130",
    torch_has_gpu=True,
    no_triton="",
)


@pytest.mark.parametrize(
    ("changes", "need", "line"),
    [
        ({"gpus": ()}, TORCH, "found no NVIDIA driver .* needed: a GPU and its driver, .* `make gpu GPU=0`"),
        (
            {"onnxruntime": ("onnxruntime 1.32.0",), "built_for": "", "providers": (CPU,)},
            ONNXRUNTIME,
            "found onnxruntime 1.32.0, which has no CUDA, needed: onnxruntime-gpu; `.*pip install 'onnxruntime-gpu",
        ),
        (
            {"onnxruntime": ("onnxruntime 1.32.0", "onnxruntime-gpu 1.32.0")},
            ONNXRUNTIME,
            "found onnxruntime 1.32.0 and onnxruntime-gpu 1.32.0, which overwrite .* needed: one of them; `.*uninstall",
        ),
        (
            {"providers": (CPU,)},
            ONNXRUNTIME,
            "found onnxruntime-gpu 1.32.0 for CUDA 12.8 on NVIDIA H200, .* not start, needed: CUDA 12 with cuDNN",
        ),
        ({"torch": "2.13.0+cpu", "torch_has_gpu": False}, TORCH, "found torch 2.13.0.cpu, .* needed: a CUDA build"),
        ({"no_triton": "nvidia-pytriton is not installed"}, TRITON, "^nvidia-pytriton is not installed$"),
    ],
)
def test_what_is_missing_is_a_line_with_what_to_do(changes: dict[str, Any], need: str, line: str) -> None:
    assert problems(READY, gpu=True) == {}
    found = problems(replace(READY, **changes), gpu=True)
    assert re.search(line, found[need]), found
    assert "\n" not in found[need]


def test_a_cpu_needs_no_gpu() -> None:
    assert problems(replace(READY, gpus=(), built_for="", providers=(CPU,), torch_has_gpu=False), gpu=False) == {}


def test_every_stage_has_a_measurement_and_a_table() -> None:
    assert ["check", *MEASURES] == [*STAGES] == [*RENDERERS]


def test_make_runs_the_stages_on_a_gpu_or_with_gpu_0_on_a_cpu() -> None:
    for given, option in (("GPU=0", "--cpu"), ("GPU=1", "")):
        command = ["make", "--no-print-directory", "--dry-run", "gpu", given]
        printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert printed.splitlines()[-1].split("benchmark.gpu")[1].strip() == option


def test_without_figures_the_section_says_so() -> None:
    text = "\n".join(render_gpu({}))
    assert "Not measured: no GPU was available." in text
    assert "|" not in text


def test_a_stage_that_was_not_measured_says_so_beside_the_others() -> None:
    conditions = {"machine": "one GPU"}
    text = "\n".join(render_gpu({"tensorrt": {"conditions": conditions, "missing": "no TensorRT"}}))
    assert "### TensorRT\n\n    .venv/bin/python -m benchmark.gpu --only tensorrt\n\nNot measured: no TensorRT." in text
    assert text.count("Not measured yet.") == len(STAGES) - 1


def test_results_of_another_format_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path / RESULTS, "another", {})
    assert main(["--cpu", "--only", "check", "--out", str(tmp_path)]) == 1
    assert f"expected results with format {FORMAT}" in capsys.readouterr().err


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all stages' results."""
    folder = tmp_path_factory.mktemp("gpu")
    assert main(["--cpu", "--work", str(folder / "work"), "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.mark.slow
def test_all_stages_run_on_a_cpu(measured: Path) -> None:
    results = json.loads((measured / RESULTS).read_text())
    assert [*results] == ["format", *STAGES]
    assert {*results["served"]["rounds"]} == {f"{way}, {of}" for way in ("raw", "served") for of in ("fp32", "fp16")}
    assert [*results["instances"]["rounds"]] == ["2"]
    assert [row["rate_per_s"] for row in results["rates"]["rates"]] == [*TINY.rates_per_s]
    repeated = [of["hit_rate"][0] for of in results["cache"]["load"].values()]
    assert repeated == [0, 0, 1, 1]
    assert results["training"]["tags"] == 1540
    assert min(rate for rates in results["training"]["steps_per_s"].values() for rate in rates) > 0
    report = (measured / "benchmarks.md").read_text()
    assert "Not measured yet" not in report
    for stage, title in STAGES.items():
        assert f"### {title}\n\n    .venv/bin/python -m benchmark.gpu --only {stage}\n" in report


@pytest.mark.slow
def test_a_stage_that_is_there_is_kept(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (measured / RESULTS).read_text()
    assert main(["--cpu", "--only", "rates", "--work", str(measured.parent / "work"), "--out", str(measured)]) == 0
    assert "kept from before" in capsys.readouterr().out
    assert (measured / RESULTS).read_text() == before
