"""Triton's `config.pbtxt`: reads and checks the platform team's, writes the ensemble's; protobuf, never strings."""

from pathlib import Path

import onnx
from altreco_client import contract
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.errors import ConfigError

CONFIG_FILE = "config.pbtxt"
ENSEMBLE_HEADER = """\
# The ensemble that clients call. It belongs to the release: `python -m export release` writes it, and it pins exactly
# the versions that were exported together, so that a rollout never mixes old and new weights.
"""

ELEMENT_TYPES: dict[int, int] = {onnx.TensorProto.UINT8: pb.TYPE_UINT8, onnx.TensorProto.FLOAT: pb.TYPE_FP32}


def read_config(repository: Path, model: str) -> pb.ModelConfig:
    """Parse a model's config; raises ConfigError when it is missing or no protobuf text."""
    path = repository / model / CONFIG_FILE
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
    except FileNotFoundError as error:
        raise ConfigError(f"no {path}: expected a Triton model repository with {_names()}") from error
    except text_format.ParseError as error:
        raise ConfigError(f"{path} is no valid model configuration: {error}") from error


def check_vocabulary_size(repository: Path, tags: int) -> None:
    """Raise ConfigError unless every config has N = `tags` where the contract has the vocabulary."""
    for model in contract.COMPONENTS:
        config = read_config(repository, model.name)
        for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
            for tensor in tensors:
                dims = [list(entry.dims) for entry in getattr(config, kind) if entry.name == tensor.name]
                if tensor.dims == (-1,) and dims not in ([], [[tags]]):
                    raise ConfigError(
                        f"{repository / model.name / CONFIG_FILE}: {kind} {tensor.name} dims: expected [{tags}], the "
                        f"checkpoint's vocabulary, found {dims[0]}. Another vocabulary is another repository: copy "
                        "this one's configs and set the dims there"
                    )


def check_config(repository: Path, model: str, onnx_file: Path) -> None:
    """Compare a component's config with the ONNX signature; raises ConfigError at the first field that differs."""
    config = read_config(repository, model)
    graph = onnx.load(onnx_file, load_external_data=False).graph
    found = {"name": config.name, "backend": config.backend, "dynamic batch": config.max_batch_size > 0}
    expected = {"name": model, "backend": "onnxruntime", "dynamic batch": True}
    for kind, entries, values in (("input", config.input, graph.input), ("output", config.output, graph.output)):
        found[kind] = {entry.name: (pb.DataType.Name(entry.data_type), list(entry.dims)) for entry in entries}
        expected[kind] = {value.name: _signature(value) for value in values}
    for field, value in expected.items():
        if found[field] != value:
            raise ConfigError(f"{repository / model / CONFIG_FILE}: {field}: expected {value}, found {found[field]}")


def ensemble_config(repository: Path, version: int) -> str:
    """The ensemble of release `version` as protobuf text; dims and batch size come from the components' configs."""
    configs = {model.name: read_config(repository, model.name) for model in contract.COMPONENTS}
    ensemble = pb.ModelConfig(
        name=contract.TAG_RECOMMENDER.name,
        platform="ensemble",
        max_batch_size=min(config.max_batch_size for config in configs.values()),
        version_policy=pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=[version])),
    )
    served = {entry.name: entry for config in configs.values() for entry in (*config.input, *config.output)}
    for tensor in contract.TAG_RECOMMENDER.inputs:
        entry = served[tensor.name]
        ensemble.input.add(name=entry.name, data_type=entry.data_type, dims=entry.dims)
    for tensor in contract.TAG_RECOMMENDER.outputs:
        entry = served[tensor.name]
        ensemble.output.add(name=entry.name, data_type=entry.data_type, dims=entry.dims)
    for model in contract.COMPONENTS:
        ensemble.ensemble_scheduling.step.add(
            model_name=model.name,
            model_version=version,
            input_map={tensor.name: tensor.name for tensor in model.inputs},
            output_map={tensor.name: tensor.name for tensor in model.outputs},
        )
    return ENSEMBLE_HEADER + text_format.MessageToString(ensemble)


def released_version(repository: Path) -> int | None:
    """The version that the ensemble pins and whose weights are there; None before the first release."""
    versions = read_config(repository, contract.TAG_RECOMMENDER.name).version_policy.specific.versions
    published = len(versions) == 1 and (repository / contract.TAG_RECOMMENDER.name / str(versions[0])).is_dir()
    return versions[0] if published else None


def _signature(value: onnx.ValueInfoProto) -> tuple[str, list[int]]:
    """Dtype and dims of an ONNX tensor without its batch dimension; -1 for a dynamic one."""
    tensor = value.type.tensor_type
    dtype = pb.DataType.Name(ELEMENT_TYPES.get(int(tensor.elem_type), pb.TYPE_INVALID))
    return dtype, [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim][1:]


def _names() -> str:
    return ", ".join(model.name for model in (*contract.COMPONENTS, contract.TAG_RECOMMENDER))
