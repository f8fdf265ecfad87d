"""Triton's model configs: reads and checks those of the components, writes the ensemble's. All parsing is protobuf's.

<model>/config.pbtxt         the config that Triton reads
<model>/configs/NAME.pbtxt   a variant: Triton reads it instead if it was started with `--model-config-name NAME`
"""

import re
from collections.abc import Iterable, MutableMapping
from pathlib import Path

import onnx
from altreco_client import contract
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tritonclient.grpc import model_config_pb2 as pb

from export.errors import ConfigError, ReleaseError
from export.tree import check_fields
from export.untrusted import read_file

CONFIG_FILE = "config.pbtxt"
MOST_BYTES = 2**20
VARIANTS = "configs/*.pbtxt"
ENSEMBLE_HEADER = """\
# The ensemble that clients call. It belongs to the release: `python -m export release` writes it, and it pins exactly
# the versions that were exported together, so that a rollout never mixes old and new weights.
"""

ELEMENT_TYPES: dict[int, int] = {onnx.TensorProto.UINT8: pb.TYPE_UINT8, onnx.TensorProto.FLOAT: pb.TYPE_FP32}
VOCABULARY_TENSORS = (contract.USER_TAG_COUNTS.name, contract.USER_PRIOR.name, contract.TAGS.name)
"""Tensors of shape [N], where N is the size of the vocabulary."""

Signature = dict[str, tuple[str, list[int]]]
"""Maps a tensor name to its Triton dtype and its dims without the batch."""


def config_files(repository: Path, model: str) -> list[Path]:
    """List a model's `config.pbtxt` and its variants, in this order."""
    return [repository / model / CONFIG_FILE, *sorted((repository / model).glob(VARIANTS))]


def read_config(repository: Path, model: str) -> pb.ModelConfig:
    """Parse a model's `config.pbtxt`. Raises ConfigError if it is missing or not protobuf text."""
    return parse_config(repository / model / CONFIG_FILE)


def parse_config(path: Path) -> pb.ModelConfig:
    """Parse one config file. Raises ConfigError."""
    try:
        return text_format.Parse(read_file(path, MOST_BYTES).decode(), pb.ModelConfig())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"no {path}: expected a Triton model repository with {_names()}") from error
    except ReleaseError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not a valid model configuration: {error}") from error


def vocabulary_size(repository: Path) -> int:
    """Read N from the preference encoder's `config.pbtxt`. Raises ConfigError if it is not there."""
    model, tensor = contract.PREFERENCE_ENCODER.name, contract.USER_TAG_COUNTS.name
    dims = [list(entry.dims) for entry in read_config(repository, model).input if entry.name == tensor]
    if len(dims) != 1 or len(dims[0]) != 1 or dims[0][0] < 1:
        raise ConfigError(
            f"{repository / model / CONFIG_FILE}: input {tensor} dims: expected [N], the size of the vocabulary, "
            f"found {dims[0] if dims else 'no such input'}"
        )
    return dims[0][0]


def check_vocabulary_size(repository: Path, tags: int) -> None:
    """Raise ConfigError unless N is `tags` in all configs, including variants."""
    for model in contract.COMPONENTS:
        for path in config_files(repository, model.name):
            config = parse_config(path)
            for kind, entries in (("input", config.input), ("output", config.output)):
                for entry in entries:
                    if entry.name in VOCABULARY_TENSORS and list(entry.dims) != [tags]:
                        raise ConfigError(
                            f"{path}: {kind} {entry.name} dims: expected [{tags}], the checkpoint's vocabulary, found "
                            f"{list(entry.dims)}. Each vocabulary needs its own repository: make one with "
                            "`.venv/bin/python -m export init`"
                        )


def check_config(repository: Path, model: str, onnx_file: Path) -> None:
    """Compare a component's configs, including variants, with the ONNX signature.

    Raises ConfigError for the first field that differs.
    """
    try:
        graph = onnx.load(onnx_file, load_external_data=False).graph
    except DecodeError as error:
        raise ConfigError(f"{onnx_file} is not an ONNX file: {error}") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise ConfigError(f"{onnx_file}: expected all weights inside the file, found a reference to another file")
    inputs, outputs = ({value.name: _of_onnx(value) for value in values} for values in (graph.input, graph.output))
    for path in config_files(repository, model):
        _check_signature(path, parse_config(path), model, inputs, outputs)


def check_repository(repository: Path) -> None:
    """Compare all configs, including variants, with the contract and with each other.

    Raises ConfigError for the first field that would keep a release from loading, answering or being rolled out. Needs
    neither weights nor the hardware that a variant is for.
    """
    tags = vocabulary_size(repository)
    request = min(read_config(repository, model.name).max_batch_size for model in contract.COMPONENTS)
    for model in contract.COMPONENTS:
        inputs, outputs = (
            {tensor.name: _of_contract(tensor, tags) for tensor in tensors} for tensors in (model.inputs, model.outputs)
        )
        for path in config_files(repository, model.name):
            config = parse_config(path)
            _check_signature(path, config, model.name, inputs, outputs)
            _check_serving(path, config, request)
            _check_warmup(path, config, inputs)
            _check_tensorrt(path, config)
            check_fields(path, config)
    for path in config_files(repository, contract.TAG_RECOMMENDER.name)[1:]:
        raise ConfigError(
            f"{path}: expected no variant of the ensemble, found one: Triton would read it instead of the pinned config"
        )


def check_ensemble(repository: Path) -> None:
    """Raise ConfigError unless the ensemble's config is what `export` writes for the version that it pins."""
    path = repository / contract.TAG_RECOMMENDER.name / CONFIG_FILE
    found = parse_config(path)
    pinned = [*found.version_policy.specific.versions]
    if len(pinned) != 1 or found != text_format.Parse(ensemble_config(repository, pinned[0]), pb.ModelConfig()):
        raise ConfigError(
            f"{path}: expected what `export` writes for one pinned release and the components' configs, found another "
            "config: restore it, or release or roll out again"
        )


def ensemble_config(repository: Path, version: int) -> str:
    """Return the config of release `version`'s ensemble. Dims and batch size come from the components' configs."""
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
    """Return the version that the ensemble pins, if it was published; None before the first release."""
    versions = read_config(repository, contract.TAG_RECOMMENDER.name).version_policy.specific.versions
    published = len(versions) == 1 and (repository / contract.TAG_RECOMMENDER.name / str(versions[0])).is_dir()
    return versions[0] if published else None


def tensorrt_parameters(config: pb.ModelConfig) -> list[MutableMapping[str, str]]:
    """Return the config's parameters for TensorRT, with the keys of Triton's onnxruntime backend; not copies."""
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    return [accelerator.parameters for accelerator in accelerators if accelerator.name == "tensorrt"]


def check_variant(repository: Path, variant: str, precision: str) -> None:
    """Raise ConfigError unless a model has this variant, and a release of this precision is right for it."""
    files = [path for model in contract.COMPONENTS for path in config_files(repository, model.name)[1:]]
    if variant not in (names := sorted({path.stem for path in files})):
        raise ConfigError(f"{repository} has no variant {variant!r}: expected one of {', '.join(names) or 'none'}")
    for path in files:
        if path.stem == variant and tensorrt_parameters(parse_config(path)) and precision != "fp16":
            raise ConfigError(
                f"{path}: expected an fp16 release, found {precision}: TensorRT computes in the types of the files; "
                "make one with `.venv/bin/python -m export release CHECKPOINT --precision fp16`"
            )


def _check_signature(path: Path, config: pb.ModelConfig, model: str, inputs: Signature, outputs: Signature) -> None:
    _expect(path, "name", model, config.name)
    _expect(path, "backend", "onnxruntime", config.backend)
    _expect(path, "dynamic batch", True, config.max_batch_size > 0)
    _expect(path, "input", inputs, _of_config(config.input))
    _expect(path, "output", outputs, _of_config(config.output))


def _check_serving(path: Path, config: pb.ModelConfig, request: int) -> None:
    """Check what does not depend on the weights: version policy, labels, and batches of up to `request` pictures."""
    policy = config.version_policy.WhichOneof("policy_choice") or "none, which means latest"
    _expect(path, "version_policy", "all", policy, because="the pinned release must stay while the next one loads")
    for output in config.output:
        if output.name == contract.TAGS.name:
            because = "without it clients get no tag names"
            _expect(path, f"output {output.name} label_filename", contract.LABELS_FILE, output.label_filename, because)
    if config.max_batch_size < request:
        raise ConfigError(
            f"{path}: max_batch_size: expected at least {request}, the ensemble's, found {config.max_batch_size}"
        )
    for size in config.dynamic_batching.preferred_batch_size:
        _expect_batch(path, config, "dynamic_batching preferred_batch_size", size)
    _check_prefetching(path, config.dynamic_batching)


def _check_prefetching(path: Path, batching: pb.ModelDynamicBatching) -> None:
    """Check that Triton prefetches batches, by the rule of `PriorityQueue` in its core's scheduler_utils.cc.

    Without prefetching, an idle model can leave requests in its queue for up to 500 ms (docs/benchmarks.md).
    """
    policy = batching.default_queue_policy
    found = [
        *(["priority_levels"] if batching.priority_levels else []),
        *(field.name for field, _ in policy.ListFields() if field.name != "timeout_action"),
    ]
    because = "it turns Triton's prefetching off, and an idle model can then leave requests waiting for 500 ms"
    _expect(path, "dynamic_batching queue policy", [], found, because)


def _check_warmup(path: Path, config: pb.ModelConfig, inputs: Signature) -> None:
    for sample in config.model_warmup:
        field = f"model_warmup {sample.name!r}"
        _expect_batch(path, config, f"{field} batch_size", sample.batch_size)
        found = {
            name: (pb.DataType.Name(value.data_type), list(value.dims)) for name, value in sorted(sample.inputs.items())
        }
        _expect(path, f"{field} inputs", dict(sorted(inputs.items())), found)


def _check_tensorrt(path: Path, config: pb.ModelConfig) -> None:
    """Check that TensorRT takes its types from the files, and that its profile covers all batch sizes."""
    for parameters in tensorrt_parameters(config):
        found_mode = parameters.get("precision_mode", "")
        because = "TensorRT 11 takes its types from the files; release in fp16 instead"
        _expect(path, "tensorrt precision_mode", "", found_mode, because)
        given = {name: parameters.get(f"trt_profile_{name}_shapes", "") for name in ("min", "opt", "max")}
        if not any(given.values()):
            continue
        tuned = re.search(r":(\d+)x", given["opt"])
        batches = {"min": 1, "opt": int(tuned[1]) if tuned else config.max_batch_size, "max": config.max_batch_size}
        _expect_batch(path, config, "trt_profile_opt_shapes batch", batches["opt"])
        for name, batch in batches.items():
            shapes = sorted("x".join(map(str, (f"{entry.name}:{batch}", *entry.dims))) for entry in config.input)
            _expect(path, f"trt_profile_{name}_shapes", shapes, sorted(given[name].split(",")))


def _expect(path: Path, field: str, expected: object, found: object, because: str = "") -> None:
    if found != expected:
        reason = f": {because}" if because else ""
        raise ConfigError(f"{path}: {field}: expected {expected!r}, found {found!r}{reason}")


def _expect_batch(path: Path, config: pb.ModelConfig, field: str, found: int) -> None:
    if not 1 <= found <= config.max_batch_size:
        raise ConfigError(f"{path}: {field}: expected 1 to {config.max_batch_size} (max_batch_size), found {found}")


def _of_config(entries: Iterable[pb.ModelInput] | Iterable[pb.ModelOutput]) -> Signature:
    return {entry.name: (pb.DataType.Name(entry.data_type), list(entry.dims)) for entry in entries}


def _of_contract(tensor: contract.Tensor, tags: int) -> tuple[str, list[int]]:
    return f"TYPE_{tensor.dtype}", [tags if dim == -1 else dim for dim in tensor.dims]


def _of_onnx(value: onnx.ValueInfoProto) -> tuple[str, list[int]]:
    """Return dtype and dims of an ONNX tensor without its batch dimension; a dynamic dimension is -1."""
    tensor = value.type.tensor_type
    dtype = pb.DataType.Name(ELEMENT_TYPES.get(int(tensor.elem_type), pb.TYPE_INVALID))
    return dtype, [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim][1:]


def _names() -> str:
    return ", ".join(model.name for model in (*contract.COMPONENTS, contract.TAG_RECOMMENDER))
