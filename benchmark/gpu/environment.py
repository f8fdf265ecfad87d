"""GPU, driver, ONNX Runtime and its providers, PyTorch and Triton on this machine."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from deploy.local import MissingDependency
from deploy.local.environment import find_installation

ONNXRUNTIME, TRITON, TORCH = "ONNX Runtime", "Triton", "PyTorch"
"""What a stage may need."""

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
PACKAGES = ("onnxruntime", "onnxruntime-gpu")
QUERY = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]


class GpuError(RuntimeError):
    """A stage cannot run here: what was found, what it needs and how to get it, in one line."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Hardware and software of the machine. `gpus`: name, driver and memory of each, as nvidia-smi prints them."""

    gpus: tuple[str, ...]
    onnxruntime: tuple[str, ...]
    """Name and version of each of PACKAGES that is installed."""
    built_for: str
    """CUDA version that ONNX Runtime was built for; empty if it has no CUDA."""
    providers: tuple[str, ...]
    """Execution providers that start, not all that the package lists."""
    torch: str
    torch_has_gpu: bool
    no_triton: str
    """Why Triton cannot be started; empty if it can."""

    def __str__(self) -> str:
        """Format all parts in one line."""
        started = ", ".join(name.removesuffix("ExecutionProvider") for name in self.providers)
        return (
            f"{'; '.join(self.gpus) or 'no GPU'}; Python {platform.python_version()}; {' and '.join(self.onnxruntime)} "
            f"for CUDA {self.built_for or 'none'}, which starts {started}; torch {self.torch}"
            f"{'' if self.torch_has_gpu else ', which finds no GPU'}"
        )


def look() -> Found:
    """Look at this machine, and start each of ONNX Runtime's providers once."""
    # CUDA and cuDNN may be pip packages, where the dynamic linker does not look for them.
    onnxruntime.preload_dlls()
    installed = {each.name: each.version for each in importlib.metadata.distributions() if each.name in PACKAGES}
    try:
        find_installation()
        no_triton = ""
    except MissingDependency as error:
        no_triton = str(error)
    return Found(
        gpus=_gpus(),
        onnxruntime=tuple(f"{name} {version}" for name, version in sorted(installed.items())),
        built_for=getattr(onnxruntime, "cuda_version", None) or "",
        providers=tuple(name for name in (TENSORRT, CUDA, CPU) if _starts(name)),
        torch=torch.__version__,
        torch_has_gpu=torch.cuda.is_available(),
        no_triton=no_triton,
    )


def _gpus() -> tuple[str, ...]:
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


def _starts(provider: str) -> bool:
    """Return whether a session starts with the provider: ONNX Runtime also lists one whose libraries are missing."""
    if provider not in onnxruntime.get_available_providers():
        return False
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "one", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])
        session.run(None, {"x": np.ones(1, np.float32)})
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no common base
        return False
    return session.get_providers()[0] == provider


def problems(found: Found, *, gpu: bool) -> Mapping[str, str]:
    """Explain why ONNXRUNTIME, TRITON or TORCH cannot be used, one line each; empty if all can."""
    lines: dict[str, str] = {}
    if gpu and not found.gpus:
        line = (
            "found no NVIDIA driver (nvidia-smi lists no GPU), needed: a GPU and its driver, 525 or later for "
            "CUDA 12, 580 or later for CUDA 13; `make gpu GPU=0` tries the stages on a CPU"
        )
        return dict.fromkeys((ONNXRUNTIME, TRITON, TORCH), line)
    if len(found.onnxruntime) > 1:
        lines[ONNXRUNTIME] = (
            f"found {' and '.join(found.onnxruntime)}, which overwrite each other's files, needed: one of them; "
            f"`.venv/bin/pip uninstall --yes onnxruntime onnxruntime-gpu && .venv/bin/pip install {_wanted(gpu)}`"
        )
    elif gpu and not found.built_for:
        lines[ONNXRUNTIME] = (
            f"found {' and '.join(found.onnxruntime) or 'no onnxruntime'}, which has no CUDA, needed: onnxruntime-gpu; "
            f"`.venv/bin/pip uninstall --yes onnxruntime && .venv/bin/pip install {_wanted(gpu)}`"
        )
    elif gpu and CUDA not in found.providers:
        lines[ONNXRUNTIME] = (
            f"found {found.onnxruntime[0]} for CUDA {found.built_for} on {found.gpus[0]}, whose CUDA provider does not "
            f"start, needed: CUDA {found.built_for.partition('.')[0]} with cuDNN 9 and a driver that has this CUDA; "
            "`.venv/bin/pip install 'onnxruntime-gpu[cuda,cudnn]'`, or onnxruntime-gpu for the driver's CUDA"
        )
    if found.no_triton:
        lines[TRITON] = found.no_triton
    if gpu and not found.torch_has_gpu:
        lines[TORCH] = (
            f"found torch {found.torch}, which finds no GPU, needed: a CUDA build for this driver; "
            "`.venv/bin/pip install --force-reinstall torch` from PyTorch's CUDA index"
        )
    return lines


def _wanted(gpu: bool) -> str:
    return "'onnxruntime-gpu>=1.23,<2'" if gpu else "'onnxruntime>=1.23,<2'"
