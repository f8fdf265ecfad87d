"""Export PyTorch modules to ONNX files with the contract's names, a dynamic batch and metadata about their origin."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import torch
from altreco_client import contract
from torch import nn

from export.errors import ExportError

OPSET = 18
"""Supported by the ONNX Runtime of every Triton container since 23.04, and has every operator of the graphs."""

TORCH_DTYPES = {"UINT8": torch.uint8, "FP32": torch.float32}


def export_onnx(module: nn.Module, model: contract.Model, tags: int, path: Path, metadata: Mapping[str, str]) -> None:
    """Write `module` as the contract's `model` with N = `tags`, and `metadata` into the file.

    Raises ExportError for operations that torch.onnx cannot express.
    """
    # Traced with two examples: with one, the exporter would make the batch dimension a constant.
    arguments = tuple(
        torch.zeros(2, *(tags if dim == -1 else dim for dim in tensor.dims), dtype=TORCH_DTYPES[tensor.dtype])
        for tensor in model.inputs
    )
    batch = torch.export.Dim("batch", min=1)
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                arguments,
                input_names=[tensor.name for tensor in model.inputs],
                output_names=[tensor.name for tensor in model.outputs],
                dynamic_shapes=tuple({0: batch} for _ in arguments),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = next(line for line in str(error.__cause__ or error).splitlines() if line.strip())
        raise ExportError(f"{model.name} cannot be written as ONNX: {reason}") from error
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which prints its steps and warns about its own internals and a missing torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def make_names_unique(path: Path, prefix: str) -> None:
    """Put `prefix/` before the name of every tensor inside the graph.

    ONNX Runtime's TensorRT provider looks up cached engines by the names in the graph, not by the weights. With equal
    names a release would answer with the engine of the previous one.
    """
    proto = onnx.load(path)
    graph = proto.graph
    outside = {"", *(value.name for value in (*graph.input, *graph.output, *graph.initializer))}

    def unique(name: str) -> str:
        return name if name in outside else f"{prefix}/{name}"

    for node in graph.node:
        node.input[:] = map(unique, node.input)
        node.output[:] = map(unique, node.output)
    for value in graph.value_info:
        value.name = unique(value.name)
    onnx.checker.check_model(proto)
    partial = path.with_name(path.name + ".partial")
    onnx.save(proto, partial)
    partial.replace(path)


def metadata_of(path: Path) -> dict[str, str]:
    """Read the metadata that `export_onnx` wrote."""
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
