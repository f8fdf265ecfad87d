"""Compare the tensors of an ONNX file with those of a `config.pbtxt`, as strictly as Triton's native backend does.

A repository that loads on the local server must load in production. So this backend refuses what the native
`onnxruntime` backend refuses, with the expected and the found value. This file is copied beside `model.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT_MAX_BATCH_SIZE = 4  # Triton's default if a config sets none

DATA_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
}


class InvalidModel(ValueError):
    """The ONNX file does not match its config.pbtxt, or one of them needs what this backend does not support."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of the ONNX graph, with Triton's name of its type; -1 is a dynamic dimension."""

    name: str
    data_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Inputs and outputs of an ONNX graph."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_signature(session: Any) -> Signature:
    """Read the signature of an onnxruntime.InferenceSession; raises InvalidModel."""
    return Signature(
        inputs=tuple(map(_tensor, session.get_inputs())),
        outputs=tuple(map(_tensor, session.get_outputs())),
    )


def _tensor(node: Any) -> Tensor:
    if node.type == "tensor(string)":
        raise InvalidModel(
            f"'{node.name}' is a tensor(string), which ends Triton's Python stub under numpy 2: make it a number, "
            f"or serve the model with NVIDIA's native onnxruntime backend"
        )
    if node.type not in DATA_TYPES:
        raise InvalidModel(f"'{node.name}' is a {node.type}, expected one of {', '.join(DATA_TYPES)}")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Tensor(name=node.name, data_type=DATA_TYPES[node.type], shape=shape)


def check_config(config: dict[str, Any], signature: Signature) -> None:
    """Raise InvalidModel with all differences between the config and the ONNX graph."""
    problems = [*_unsupported(config), *_differences(config, signature)]
    if problems:
        raise InvalidModel("; ".join(problems))


def complete_config(config: Any, signature: Signature) -> None:
    """Fill in what a config.pbtxt leaves out: tensors, max_batch_size and dynamic batching.

    `config` is the triton_python_backend_utils.ModelConfig that Triton hands to auto_complete_config.
    """
    given = config.as_dict()
    wants_inputs, wants_outputs = not given.get("input"), not given.get("output")
    max_batch_size = int(given.get("max_batch_size", 0))
    batched = all(tensor.shape[:1] == (-1,) for tensor in (*signature.inputs, *signature.outputs))
    if batched:
        max_batch_size = max_batch_size or DEFAULT_MAX_BATCH_SIZE
        config.set_max_batch_size(max_batch_size)
        if max_batch_size > 1 and "sequence_batching" not in given:
            config.set_dynamic_batching()
    for tensor in signature.inputs if wants_inputs else ():
        config.add_input(_completed(tensor, max_batch_size))
    for tensor in signature.outputs if wants_outputs else ():
        config.add_output(_completed(tensor, max_batch_size))


def _completed(tensor: Tensor, max_batch_size: int) -> dict[str, Any]:
    dims = list(tensor.shape[1:] if max_batch_size else tensor.shape)
    if not dims:
        raise InvalidModel(
            f"'{tensor.name}' has shape {list(tensor.shape)}, from which no config can be derived: "
            f"write it into config.pbtxt, with dims: [ 1 ] reshape: {{ shape: [ ] }}"
        )
    return {"name": tensor.name, "data_type": tensor.data_type, "dims": dims}


def _unsupported(config: dict[str, Any]) -> Iterator[str]:
    for key in ("sequence_batching", "batch_input", "batch_output", "model_operations"):
        if config.get(key):
            yield f"{key} is not supported by the local onnxruntime backend"
    for io in config.get("input", ()):
        for key in ("optional", "allow_ragged_batch"):
            if io.get(key):
                yield f"input '{io['name']}': {key} is not supported by the local onnxruntime backend"


def _differences(config: dict[str, Any], signature: Signature) -> Iterator[str]:
    inputs, outputs = config.get("input", []), config.get("output", [])
    if len(inputs) != len(signature.inputs):
        names = _listed(tensor.name for tensor in signature.inputs)
        yield f"the config has {len(inputs)} inputs, the ONNX model has {len(signature.inputs)} ({names})"
    batched = int(config.get("max_batch_size", 0)) > 0
    for io in inputs:
        yield from _tensor_differences("input", io, signature.inputs, batched=batched, exact=False)
    for io in outputs:
        # The native backend lets a config fix a dynamic dimension of an input, but not of an output.
        yield from _tensor_differences("output", io, signature.outputs, batched=batched, exact=True)


def _tensor_differences(
    kind: str, io: dict[str, Any], tensors: Sequence[Tensor], *, batched: bool, exact: bool
) -> Iterator[str]:
    name = io["name"]
    tensor = next((tensor for tensor in tensors if tensor.name == name), None)
    if tensor is None:
        yield f"the ONNX model has no {kind} '{name}', its {kind}s are {_listed(tensor.name for tensor in tensors)}"
        return
    if io["data_type"] != tensor.data_type:
        yield f"{kind} '{name}': the config says {io['data_type']}, the ONNX model has {tensor.data_type}"
    dims = [int(size) for size in (io["reshape"].get("shape", ()) if "reshape" in io else io["dims"])]
    if batched and tensor.shape[:1] != (-1,):
        yield (
            f"{kind} '{name}': max_batch_size > 0 needs an ONNX model whose first dimension is open (-1), "
            f"it has shape {list(tensor.shape)}"
        )
        return
    full = [-1, *dims] if batched else dims
    if not _fits(full, tensor.shape, exact=exact):
        reason = "a batch dimension, because max_batch_size > 0, then dims" if batched else "max_batch_size is 0"
        yield (
            f"{kind} '{name}': the ONNX model has shape {list(tensor.shape)}, "
            f"the config expects shape {full} ({reason})"
        )


def _fits(config: Sequence[int], model: Sequence[int], *, exact: bool) -> bool:
    if len(config) != len(model):
        return False
    return all(found == wanted or (found == -1 and not exact) for wanted, found in zip(config, model, strict=True))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
