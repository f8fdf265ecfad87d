"""How the backend reads a config, without a server: what cannot be seen from outside of it."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from deploy.local.environment import BACKEND_SOURCES
from tests.deploy.models import double


@pytest.fixture
def onnx_session(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module as Triton's stub imports it: from the backend's own folder."""
    monkeypatch.syspath_prepend(str(BACKEND_SOURCES))
    return importlib.import_module("onnx_session")


def parameters(**values: str) -> dict[str, Any]:
    return {"parameters": {key: {"string_value": value} for key, value in values.items()}}


@pytest.fixture
def _one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("given", "threads"), [("3", 3), ("0", 0), ("-2", 0)])
def test_thread_counts(onnx_session: Any, monkeypatch: pytest.MonkeyPatch, given: str, threads: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: len(os.sched_getaffinity(0)))
    options = onnx_session.session_options(parameters(intra_op_thread_count=given, inter_op_thread_count=given))
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, threads)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.usefixtures("_one_core")
def test_a_process_on_some_cores_has_a_thread_for_each(
    onnx_session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)  # also where there is one
    (tmp_path / "model.onnx").write_bytes(double().SerializeToString())
    session = onnx_session.open_session({}, tmp_path, kind="CPU", device_id=0)
    assert session.get_session_options().intra_op_num_threads == 1


def test_execution_mode(onnx_session: Any) -> None:
    modes = onnxruntime.ExecutionMode
    assert onnx_session.session_options({}).execution_mode == modes.ORT_SEQUENTIAL
    assert onnx_session.session_options(parameters(execution_mode="1")).execution_mode == modes.ORT_PARALLEL


@pytest.mark.parametrize(
    ("level", "expected"),
    [(-1, "ORT_ENABLE_BASIC"), (0, "ORT_ENABLE_ALL"), (1, "ORT_ENABLE_EXTENDED"), (2, "ORT_DISABLE_ALL")],
)
def test_graph_level(onnx_session: Any, level: int, expected: str) -> None:
    options = onnx_session.session_options({"optimization": {"graph": {"level": level}}})
    assert options.graph_optimization_level == getattr(onnxruntime.GraphOptimizationLevel, expected)


def test_a_gpu_instance_runs_on_its_device(onnx_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    cuda = {"name": "cuda", "parameters": {"cudnn_conv_algo_search": "HEURISTIC"}}
    config = {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [cuda]}}}
    assert onnx_session.providers(config, kind="GPU", device_id=1) == [
        ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "device_id": 1}),
        "CPUExecutionProvider",
    ]


def test_a_gpu_instance_is_refused_without_cuda(onnx_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="KIND_GPU instance needs the CUDAExecutionProvider"):
        onnx_session.providers({}, kind="GPU", device_id=0)


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider' is not in available")
def test_a_gpu_instance_never_runs_on_the_cpu(
    onnx_session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(double().SerializeToString())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(ValueError, match="cannot use its CUDAExecutionProvider"):
        onnx_session.open_session({}, tmp_path, kind="GPU", device_id=0)
