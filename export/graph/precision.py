"""The precision of a release's ONNX files: float32, float16 for GPUs, int8 for CPUs with VNNI.

In every precision the files are first optimized as far as they stay portable, which is ONNX Runtime's level BASIC: it
folds constants, removes nodes without effect and merges batch normalization into convolutions. PyTorch's exporter does
most of this itself, so that in the present models no node is left to remove. The higher levels, EXTENDED and ALL, use
ONNX Runtime's own operators for one execution provider, one vector width (blocked layout) and one version of ONNX
Runtime. TensorRT or an older container would refuse such a file. ONNX Runtime applies these levels when it loads it.
"""

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
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
    """Optimize the model at level BASIC, and keep the operator sets of the original file."""
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
    """Convert the model to float16, except its inputs and outputs and the arithmetic of raw counts and prior.

    The converter would round everything that passes between two float32 nodes, so it never sees these nodes.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    exact = _float32_nodes(graph)
    kept = [node for node in graph.node if node.name in exact]
    others = [node for node in graph.node if node.name not in exact]
    half = onnx.ModelProto()
    half.CopyFrom(model)
    half.graph.CopyFrom(_part(graph, others))
    with warnings.catch_warnings():
        # Weights outside float16's range become its smallest or largest number. If that matters, the gates fail.
        warnings.simplefilter("ignore")
        half = convert_float_to_float16(half, keep_io_types=True)
    for field in ("input", "output"):
        half.graph.ClearField(field)
        getattr(half.graph, field).extend(getattr(graph, field))
    half.graph.node.extend(kept)
    half.graph.initializer.extend(_part(graph, kept).initializer)
    return half


def _part(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> onnx.GraphProto:
    """Build a graph of these nodes alone. Tensors from other nodes become inputs, and tensors to them outputs."""
    taken, made = ({name for node in nodes for name in getattr(node, field)} for field in ("input", "output"))
    elsewhere = {name for node in graph.node if node not in nodes for name in node.input}
    elsewhere.update(value.name for value in graph.output)
    weights = [tensor for tensor in graph.initializer if tensor.name in taken]
    values = (*graph.input, *graph.value_info, *graph.output)
    inputs = [value for value in values if value.name in taken - made - {tensor.name for tensor in weights}]
    outputs = [value for value in values if value.name in made & elsewhere]
    return onnx.helper.make_graph(nodes, graph.name, inputs, outputs, weights)


def _float32_nodes(graph: onnx.GraphProto) -> set[str]:
    """Name the nodes that take raw counts, up to the first layer, and those that make or use the prior.

    Counts go up to 1,000,000; float16 ends at 65,504.
    """
    exact, names = {contract.USER_TAG_COUNTS.name, contract.USER_PRIOR.name}, set()
    for node in graph.node:
        if exact.intersection(node.input) and node.op_type not in ("Gemm", "MatMul"):
            exact.update(node.output)
            names.add(node.name)
    needed = {contract.USER_PRIOR.name}
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            names.add(node.name)
    return names


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
