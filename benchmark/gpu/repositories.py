"""Model repositories with the configs of the variant `gpu`, on a GPU or, without its hardware, on a CPU."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from altreco_client import contract
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from benchmark.gpu.settings import ENCODER, GpuSettings
from export.config import CONFIG_FILE, parse_config, tensorrt_parameters
from export.full_size import VERSION, folded
from export.graph.precision import apply_precision
from export.manifest import Precision
from export.repository import model_files

WARMUP_ON_CPU = 2


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where models run and files are kept: on a `gpu` or not, the project's `configs`, and the `work` folder."""

    gpu: bool
    configs: Path
    work: Path


def weights(place: Place, settings: GpuSettings, precision: Precision) -> Path:
    """Make a repository with random weights in this precision, unless it exists. Raises ExportError."""
    repository = place.work / settings.load.preset / precision
    if not repository.exists():
        partial = repository.with_name(f"{precision}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        place.work.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folded(settings.load.preset, place.configs, repository.parent), partial)
        apply_precision(model_files(partial, VERSION), precision, lambda: np.empty(0, np.uint8))
        partial.rename(repository)
    return repository


def variant(
    place: Place,
    settings: GpuSettings,
    precision: Precision,
    folder: Path,
    *,
    batching: bool = True,
    instances: int | None = None,
) -> Path:
    """Make a repository in `folder` with the configs of the variant `gpu`, changed as asked; weights are links.

    `instances` is the number for the visual encoder; None keeps the committed one.
    """
    source = weights(place, settings, precision)
    for model in (*contract.COMPONENTS, contract.TAG_RECOMMENDER):
        (folder / model.name).mkdir(parents=True)
        for entry in (source / model.name).iterdir():
            if entry.name != CONFIG_FILE:
                (folder / model.name / entry.name).symlink_to(entry.resolve())
    ensemble = Path(contract.TAG_RECOMMENDER.name, CONFIG_FILE)
    shutil.copy(source / ensemble, folder / ensemble)
    for model in contract.COMPONENTS:
        config = parse_config(place.configs / model.name / "configs" / "gpu.pbtxt")
        if not batching:
            config.ClearField("dynamic_batching")
        if instances and model.name == ENCODER:
            config.instance_group[0].count = instances
        if not place.gpu:
            _for_cpu(config)
        (folder / model.name / CONFIG_FILE).write_text(text_format.MessageToString(config), encoding="utf-8")
    return folder


def _for_cpu(config: pb.ModelConfig) -> None:
    """Remove the GPU from the config, and shrink warm-up batches that take long on a CPU."""
    config.ClearField("optimization")
    for group in config.instance_group:
        group.kind = group.KIND_CPU
    for sample in config.model_warmup:
        sample.batch_size = min(sample.batch_size, WARMUP_ON_CPU)
    for name in [name for name in config.parameters if name != "intra_op_thread_count"]:
        del config.parameters[name]


def cuda_options(place: Place, model: str) -> Mapping[str, str]:
    """Read a model's options of the CUDA provider from the variant `gpu`."""
    config = parse_config(place.configs / model / "configs" / "gpu.pbtxt")
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    return dict(accelerator.parameters)


def tensorrt_options(place: Place, model: str, engines: Path) -> Mapping[str, str]:
    """Read a model's options of the TensorRT provider from the variant `tensorrt`, with engines kept in a folder."""
    config = parse_config(place.configs / model / "configs" / "tensorrt.pbtxt")
    (parameters,) = tensorrt_parameters(config)
    engines.mkdir(parents=True, exist_ok=True)
    # ONNX Runtime's Python binding does not accept 1 for True.
    return {**parameters, "trt_engine_cache_enable": "True", "trt_engine_cache_path": str(engines)}
