"""Open an ONNX Runtime session with the settings of a Triton model's `config.pbtxt`.

The keys mean what they mean to Triton's native `onnxruntime` backend. This file is copied beside `model.py`.
"""

import os
from pathlib import Path
from typing import Any

import onnxruntime
from onnx_signature import InvalidModel

HONOURED_PARAMETERS = frozenset({"intra_op_thread_count", "inter_op_thread_count", "execution_mode"})
EXECUTION_MODES = {0: onnxruntime.ExecutionMode.ORT_SEQUENTIAL, 1: onnxruntime.ExecutionMode.ORT_PARALLEL}
GRAPH_LEVELS = {
    -1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def open_for_reading(path: Path) -> onnxruntime.InferenceSession:
    """Open a session only to read the signature; nothing is optimized."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return _open(path, options, ["CPUExecutionProvider"])


def open_session(config: dict[str, Any], folder: Path, *, kind: str, device_id: int) -> onnxruntime.InferenceSession:
    """Open the session of a model instance; `folder` is the model version's, `kind` is CPU, GPU or MODEL."""
    return _open(model_path(config, folder), session_options(config), providers(config, kind=kind, device_id=device_id))


def model_path(config: dict[str, Any], folder: Path) -> Path:
    """Return the path of a model version's ONNX file."""
    path = folder / (config.get("default_model_filename") or "model.onnx")
    return path / "model.onnx" if path.is_dir() else path


def session_options(config: dict[str, Any]) -> onnxruntime.SessionOptions:
    """Read the session options from a config; raises InvalidModel."""
    options = onnxruntime.SessionOptions()
    # Otherwise idle threads of one model spin on the cores that the other models need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.intra_op_num_threads = max(0, _number(config, "intra_op_thread_count")) or _own_cores()
    options.inter_op_num_threads = max(0, _number(config, "inter_op_thread_count"))
    mode = _number(config, "execution_mode")
    if mode not in EXECUTION_MODES:
        raise InvalidModel(f"parameter 'execution_mode' is {mode}, expected 0 (sequential) or 1 (parallel)")
    options.execution_mode = EXECUTION_MODES[mode]
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = GRAPH_LEVELS.get(level, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    return options


def providers(config: dict[str, Any], *, kind: str, device_id: int) -> list[Any]:
    """Choose an instance's execution providers; raises InvalidModel. CUDA follows the native backend; not measured."""
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    gpu = accelerators.get("gpu_execution_accelerator", [])
    unsupported = [*accelerators.get("cpu_execution_accelerator", ())]
    unsupported += [accelerator for accelerator in gpu if kind != "GPU" or accelerator["name"] != "cuda"]
    if unsupported:
        names = ", ".join(f"'{accelerator['name']}'" for accelerator in unsupported)
        raise InvalidModel(
            f"execution accelerator {names} is not available in the local backend on a {kind} instance, which has only "
            f"'cuda' on GPU instances: remove it from config.pbtxt, or serve the model with NVIDIA's container"
        )
    if kind != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise InvalidModel(
            "a KIND_GPU instance needs the CUDAExecutionProvider, which this onnxruntime lacks: install "
            "onnxruntime-gpu in place of onnxruntime, or use KIND_CPU"
        )
    onnxruntime.preload_dlls()  # CUDA and cuDNN, if they are packages of pip
    parameters = {key: value for accelerator in gpu for key, value in accelerator.get("parameters", {}).items()}
    return [("CUDAExecutionProvider", {**parameters, "device_id": device_id}), "CPUExecutionProvider"]


def _open(path: Path, options: onnxruntime.SessionOptions, providers: list[Any]) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise InvalidModel(f"there is no ONNX file {path}")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise InvalidModel(f"ONNX Runtime cannot load {path}: {error}") from error
    # ONNX Runtime drops what it cannot use, and only its log says so.
    wanted = {provider if isinstance(provider, str) else provider[0] for provider in providers}
    if missing := wanted.difference(session.get_providers()):
        raise InvalidModel(
            f"ONNX Runtime {onnxruntime.__version__} cannot use its {', '.join(missing)}; the log says what is "
            f"missing, a GPU or a version of CUDA or cuDNN: install that, or use KIND_CPU"
        )
    return session


def _own_cores() -> int:
    """Return the number of cores that taskset or a cpuset keeps this process on; 0 if it may use all of the machine's.

    With 0, ONNX Runtime binds a thread to each core of the machine, also to those that the process may not use.
    """
    own = len(os.sched_getaffinity(0))
    return own if own < (os.cpu_count() or own) else 0


def _number(config: dict[str, Any], name: str) -> int:
    value = config.get("parameters", {}).get(name, {}).get("string_value", "0")
    try:
        return int(value)
    except ValueError:
        raise InvalidModel(f"parameter '{name}' is '{value}', expected a whole number") from None
