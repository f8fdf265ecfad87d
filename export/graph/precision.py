"""The precision of a release's ONNX files: float32, float16 for GPUs, int8 for CPUs with VNNI.

In every precision the files are first optimized as far as they stay portable, which is ONNX Runtime's level BASIC: it
folds constants, removes nodes without effect and merges batch normalization into convolutions. PyTorch's exporter does
most of this itself, so that in the present models no node is left to remove. The higher levels, EXTENDED and ALL, use
ONNX Runtime's own operators for one execution provider, one vector width (blocked layout) and one version of ONNX
Runtime. TensorRT or an older container would refuse such a file. ONNX Runtime applies these levels when it loads it.
"""

import re
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from altreco_client import contract
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export.graph.quantize import quantize
from export.manifest import Precision


def apply_precision(
    files: Mapping[str, Path], precision: Precision, calibration: Callable[[], NDArray[np.uint8]]
) -> tuple[str, ...]:
    """Optimize the float32 files (model name to file) and convert them in place, all of them or, on an error, none.

    `calibration` returns training pictures, uint8 [pictures, 224, 224, 3]; only int8 calls it. Returns the names of the
    nodes that int8 kept in float because quantization hurts there. Raises ExportError for too few pictures.

    Metadata and the names, types and shapes of inputs and outputs stay. In fp16, the arithmetic of raw counts and of
    the prior stays float32. int8 applies only to the visual encoder, which takes 95 % of the time; the other models
    stay float32.
    """
    models = {name: _optimized(path) for name, path in files.items()}
    kept_in_float: tuple[str, ...] = ()
    if precision == "fp16":
        models = {name: _half(model) for name, model in models.items()}
    if precision == "int8":
        name = contract.VISUAL_ENCODER.name
        models[name], kept_in_float = quantize(models[name], calibration())
    _replace(files, models)
    return kept_in_float


def _optimized(path: Path) -> onnx.ModelProto:
    """The model after optimization at level BASIC, with the operator sets of the original file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "model.onnx"
        options.optimized_model_filepath = str(optimized)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(optimized)
    # ONNX Runtime lists every operator set that it knows. A version that does not know one of them refuses the file.
    imports = onnx.load(path, load_external_data=False).opset_import
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return model


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float16, with float32 inputs and outputs, raw counts and prior."""
    with warnings.catch_warnings():
        # Weights outside float16's range become its smallest or largest number. If that matters, the gates fail.
        warnings.simplefilter("ignore")
        half = convert_float_to_float16(model, keep_io_types=True, node_block_list=_float32_nodes(model.graph))
    _join_float32(half.graph)
    return half


def _float32_nodes(graph: onnx.GraphProto) -> list[str]:
    """The names of the nodes that take raw counts, up to the first layer, and of those that make or use the prior.

    Counts go up to 1,000,000; float16 ends at 65,504.
    """
    exact, names = {contract.USER_TAG_COUNTS.name, contract.USER_PRIOR.name}, []
    for node in graph.node:
        if exact.intersection(node.input) and node.op_type not in ("Gemm", "MatMul"):
            exact.update(node.output)
            names.append(node.name)
    needed = {contract.USER_PRIOR.name}
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            names.append(node.name)
    return names


def _join_float32(graph: onnx.GraphProto) -> None:
    """Remove what the converter puts between two float32 nodes: a Cast to float16, which rounds, and one back."""
    narrowing = [node for node in graph.node if re.fullmatch(r"graph_input_cast\d+|.*_cast_to_fp16_node", node.name)]
    sources = {node.output[0]: node.input[0] for node in narrowing}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in sources:
            node.CopyFrom(onnx.helper.make_node("Identity", [sources[node.input[0]]], list(node.output), node.name))
    used = {name for node in graph.node for name in node.input}
    for node in narrowing:
        if node.output[0] not in used:
            graph.node.remove(node)


def _replace(files: Mapping[str, Path], models: Mapping[str, onnx.ModelProto]) -> None:
    """Write all models to temporary files, then rename them."""
    beside = {name: path.with_name(f".{path.name}.partial") for name, path in files.items()}
    try:
        for name, model in models.items():
            OnnxModel.graph_topological_sort(model.graph)  # converters append what they insert
            onnx.checker.check_model(model, full_check=True)
            onnx.save(model, beside[name])
        for name, path in files.items():
            beside[name].replace(path)
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)
