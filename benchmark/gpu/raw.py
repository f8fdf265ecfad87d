"""ONNX Runtime in this process, without a server: its providers, and what copies to and from the GPU cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np
import onnxruntime
from altreco_client import contract

from benchmark.gpu.environment import CPU, CUDA, TENSORRT, Found
from benchmark.gpu.repositories import Place, cuda_options, tensorrt_options, weights
from benchmark.gpu.settings import LIMIT_S, GpuSettings
from benchmark.peers.raw import batches
from export.config import vocabulary_size
from export.full_size import VERSION
from export.manifest import Precision
from export.repository import model_files
from measure.callers import Caller, closed_load
from measure.requests import Arrays
from measure.turns import by_turns

Sessions = Mapping[str, onnxruntime.InferenceSession]
"""The session of each component."""
Ask = Callable[[Arrays], object]

KEPT = 4
"""Batches that are sent again and again, because making a picture takes longer than tagging it on a GPU."""
HOST, BETWEEN, DEVICE = "arrays between the models", "tensors stay on the device between the models", "no copies at all"


def measure_raw(settings: GpuSettings, place: Place, found: Found) -> dict[str, Any]:
    """Measure CUDA in every precision and batch size; on a CPU, ONNX Runtime's own provider. Raises ExportError."""
    engines = {"CUDA" if place.gpu else "CPU": CUDA if place.gpu else CPU}
    return {"engines": _engines(settings, place, engines, settings.precisions)}


def measure_tensorrt(settings: GpuSettings, place: Place, found: Found) -> dict[str, Any]:
    """Measure TensorRT beside CUDA, after it has built its engines. Raises ExportError.

    Building takes minutes. Each engine is kept once it is built, so a stage that was stopped goes on with the next one.
    """
    if not place.gpu:
        return {"engines": _engines(settings, place, {"CPU in place of TensorRT": CPU}, ("fp16",))}
    if TENSORRT not in found.providers:
        need = "needs TensorRT's libraries for the CUDA version that ONNX Runtime was built for: `pip install tensorrt`"
        return {"missing": f"ONNX Runtime's TensorRT provider does not start here: it {need}"}
    return {"engines": _engines(settings, place, {"TensorRT": TENSORRT, "CUDA": CUDA}, settings.precisions)}


def _engines(
    settings: GpuSettings, place: Place, providers: Mapping[str, str], precisions: Sequence[Precision]
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Measure the figures of each round, by engine and precision, then by batch size."""
    tags = vocabulary_size(place.configs)
    kept = {size: list(islice(batches(size, tags), KEPT)) for size in settings.batches}
    asks: dict[str, Ask] = {}
    for name, provider in providers.items():
        for precision in precisions:
            started = time.monotonic()
            sessions = open_sessions(settings, place, provider, precision)
            asks[f"{name}, {precision}"] = partial(from_host, sessions)
            for arrays in kept.values():
                from_host(sessions, arrays[0])
            print(f"   {name}, {precision}: ready after {time.monotonic() - started:.0f} s", flush=True)
    turns = {
        f"{name}|{size}": partial(_figures, ask, kept[size], settings) for name, ask in asks.items() for size in kept
    }
    taken = by_turns(turns, settings.load.rounds, title="raw", limit_s=LIMIT_S / 2)
    return {name: {str(size): taken[f"{name}|{size}"] for size in kept} for name in asks}


def _figures(ask: Ask, kept: Sequence[Arrays], settings: GpuSettings) -> dict[str, float]:
    """Measure the median ms per call, and the pictures per second, of one caller."""
    size = len(kept[0][0])
    forever = cycle(kept)
    closed_load([Caller(ask, forever)], seconds=settings.load.warmup_s)
    load = closed_load([Caller(ask, forever)], seconds=settings.load.window_s)
    return {"p50_ms": load.percentile_ms(50), "pictures_per_s": size * load.per_second}


def open_sessions(settings: GpuSettings, place: Place, provider: str, precision: Precision) -> Sessions:
    """Open the three models on a provider, with the options of the committed variants."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = {}
    for name, file in model_files(weights(place, settings, precision), VERSION).items():
        given: dict[str, Mapping[str, str]] = {CPU: {}}
        if provider != CPU:
            given = {CUDA: cuda_options(place, name), **given}
        if provider == TENSORRT:
            given = {TENSORRT: tensorrt_options(place, name, place.work / "engines" / precision / name), **given}
        sessions[name] = onnxruntime.InferenceSession(str(file), options, providers=list(given.items()))
    return sessions


def from_host(sessions: Sessions, arrays: Arrays) -> np.ndarray:
    """Run the three models with tensors passed through the host's memory. Returns TAGS [batch, N]."""
    tensors: dict[str, Any] = _named(arrays)
    for model in contract.COMPONENTS:
        names = [tensor.name for tensor in model.outputs]
        answers = sessions[model.name].run(names, {tensor.name: tensors[tensor.name] for tensor in model.inputs})
        tensors.update(zip(names, answers, strict=True))
    answer: np.ndarray = tensors[contract.TAGS.name]
    return answer


def on_device(sessions: Sessions, device: str, given: Mapping[str, onnxruntime.OrtValue]) -> onnxruntime.OrtValue:
    """Run the three models with tensors that stay on the device. Returns TAGS [batch, N] there."""
    tensors = dict(given)
    for model in contract.COMPONENTS:
        binding = sessions[model.name].io_binding()
        for tensor in model.inputs:
            binding.bind_ortvalue_input(tensor.name, tensors[tensor.name])
        for tensor in model.outputs:
            binding.bind_output(tensor.name, device)
        sessions[model.name].run_with_iobinding(binding)
        binding.synchronize_outputs()
        tensors.update(zip([tensor.name for tensor in model.outputs], binding.get_outputs(), strict=True))
    return tensors[contract.TAGS.name]


def to_device(arrays: Arrays, device: str) -> dict[str, onnxruntime.OrtValue]:
    """Copy the ensemble's inputs to the device."""
    return {name: onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0) for name, array in _named(arrays).items()}


def _named(arrays: Arrays) -> dict[str, np.ndarray]:
    given: Sequence[np.ndarray] = arrays
    return {tensor.name: array for tensor, array in zip(contract.TAG_RECOMMENDER.inputs, given, strict=True)}


def measure_copies(settings: GpuSettings, place: Place, found: Found) -> dict[str, Any]:
    """Measure the three models in fp16: all copies, none between the models, none at all. Raises ExportError."""
    device = "cuda" if place.gpu else "cpu"
    sessions = open_sessions(settings, place, CUDA if place.gpu else CPU, "fp16")
    tags = vocabulary_size(place.configs)
    ways: dict[str, Callable[[Arrays], Ask]] = {
        HOST: lambda arrays: lambda _: from_host(sessions, arrays),
        BETWEEN: lambda arrays: lambda _: on_device(sessions, device, to_device(arrays, device)).numpy(),
        DEVICE: lambda arrays: partial(_again, sessions, device, to_device(arrays, device)),
        "only the copy of the inputs": lambda arrays: lambda _: to_device(arrays, device),
    }
    kept = {size: next(batches(size, tags)) for size in settings.batches}
    turns = {
        f"{name}|{size}": partial(_figures, way(arrays), [arrays], settings)
        for name, way in ways.items()
        for size, arrays in kept.items()
    }
    taken = by_turns(turns, settings.load.rounds, title="copies", limit_s=LIMIT_S / 2)
    return {
        "ways": {name: {str(size): taken[f"{name}|{size}"] for size in kept} for name in ways},
        "input_bytes": {str(size): sum(array.nbytes for array in arrays) for size, arrays in kept.items()},
    }


def _again(sessions: Sessions, device: str, given: Mapping[str, onnxruntime.OrtValue], _: Arrays) -> object:
    return on_device(sessions, device, given)
