"""int8 for CPUs with VNNI: static quantization that keeps layers in float where it would hurt.

Weights are signed, with a scale per output channel. Activations are unsigned (VNNI multiplies u8 by s8), with a scale
per tensor. The file is plain ONNX: QuantizeLinear and DequantizeLinear around float operators, which ONNX Runtime
fuses into integer operators (QLinearConv, QLinearAdd) when it loads the file.
"""

import bisect
import copy
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from altreco_client import contract
from numpy.typing import NDArray
from onnxruntime.quantization import QDQQuantizer, QuantType
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

from export.calibration import FEWEST_PICTURES, activation_ranges
from export.errors import ExportError

PROBES = 8
"""Number of calibration pictures on which the error is measured."""

ERROR_ALLOWED = 0.1
"""Largest accepted relative RMS error of VISUAL_ENCODING; above it, layers go back to float.

Noise of this size on the encodings of the preset `small`'s 299 generated test pictures did not change precision@5
(0.557). Noise of 0.2 cost 0.005; of 0.5, 0.009 if it was independent and 0.048 if it was constant per channel.
"""

LAYERS = ("Conv", "Gemm", "MatMul")
QUANTIZED = (*LAYERS, "Relu", "Add", "MaxPool", "AveragePool", "GlobalAveragePool")


def quantize(model: onnx.ModelProto, calibration: NDArray[np.uint8]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Quantize the visual encoder; return it and the names of the nodes kept in float because int8 hurts there.

    `calibration`: uint8 [pictures, 224, 224, 3]. Raises ExportError for too few pictures. A Relu stays with the node
    before it and is not named. The normalization before the first layer is never quantized; it takes 1 % of the time.
    """
    found = calibration.shape
    if len(calibration) < FEWEST_PICTURES or found[1:] != contract.IMAGE.dims:
        raise ExportError(
            f"int8 is calibrated on training pictures: expected at least {FEWEST_PICTURES} of "
            f"{list(contract.IMAGE.dims)}, found {found[0]} of {list(found[1:])}; name a data set that has them with "
            "--data, or release fp32"
        )
    return _Quantization(model, calibration).search()


class _Quantization:
    """A model with the ranges of its activations and its answers in float."""

    def __init__(self, model: onnx.ModelProto, calibration: NDArray[np.uint8]) -> None:
        nodes = model.graph.node
        first = next(i for i, node in enumerate(nodes) if node.op_type in LAYERS)
        self.front = [node.name for node in nodes[:first]]
        self.groups = _groups(nodes[first:])
        self.metadata = model.metadata_props
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "float.onnx"
            onnx.save(_widened(model, first), path)
            self.model = load_model_with_shape_infer(path)  # otherwise the quantizer infers the shapes each time
            self.ranges = activation_ranges(path, calibration)
        self.probes = calibration[np.linspace(0, len(calibration) - 1, PROBES).astype(np.int64)]
        self.answer = _run(model, self.probes)

    def search(self) -> tuple[onnx.ModelProto, tuple[str, ...]]:
        """Keep as few nodes in float as needed, starting with those that hurt most when they alone are in int8."""
        everything = self.without(())
        if self.error(everything) <= ERROR_ALLOWED:
            return everything, ()
        alone = {name: self.error(self.without(self.groups.keys() - {name})) for name in self.groups}
        worst_first = sorted(alone, key=alone.__getitem__, reverse=True)
        count = bisect.bisect_left(
            range(len(worst_first)), True, key=lambda n: self.error(self.without(worst_first[:n])) <= ERROR_ALLOWED
        )
        kept = tuple(worst_first[:count])
        return self.without(kept), kept

    def without(self, in_float: Iterable[str]) -> onnx.ModelProto:
        """Quantize the model, except these nodes and their groups."""
        quantizer = QDQQuantizer(
            copy.deepcopy(self.model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*self.front, *(name for node in in_float for name in self.groups[node])],
            op_types_to_quantize=list(QUANTIZED),
            extra_options={},
        )
        quantized = quantizer.quantize_model()
        del quantized.metadata_props[:]  # the quantizer's notes to itself
        quantized.metadata_props.extend(self.metadata)
        return quantized

    def error(self, model: onnx.ModelProto) -> float:
        """Measure the error of the model's answers relative to the float model's."""
        difference = _run(model, self.probes) - self.answer
        return float(np.linalg.norm(difference) / np.linalg.norm(self.answer))


def _groups(nodes: Iterable[onnx.NodeProto]) -> dict[str, list[str]]:
    """Group the nodes that are quantized together, a node and the Relu fused into it, under the first one's name."""
    groups: dict[str, list[str]] = {}
    producers: dict[str, str] = {}
    for node in nodes:
        if node.op_type in QUANTIZED:
            joins = node.op_type == "Relu" and node.input[0] in producers
            name = producers[node.input[0]] if joins else node.name
            groups.setdefault(name, []).append(node.name)
            producers[node.output[0]] = name
    return groups


def _widened(model: onnx.ModelProto, first: int) -> onnx.ModelProto:
    """Repeat the normalization's constants [1, 3, 1, 1] along each row of pixels.

    ONNX Runtime computes an int8 graph with the channels last. The repeated constants are 672 numbers, which it adds as
    vectors. With 3 numbers it takes ten times as long, which is a fourteenth of a ResNet-50 at batch 1.
    """
    model = copy.deepcopy(model)
    used = {name for node in model.graph.node[:first] for name in node.input}
    for initializer in model.graph.initializer:
        if initializer.name in used and list(initializer.dims) == [1, 3, 1, 1]:
            wide = np.tile(onnx.numpy_helper.to_array(initializer), (1, 1, 1, contract.IMAGE_SIZE))
            initializer.CopyFrom(onnx.numpy_helper.from_array(wide, initializer.name))
    del model.graph.value_info[:]
    return model


def _run(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warning for each quantized weight that a float neighbour leaves unused
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([contract.VISUAL_ENCODING.name], {contract.IMAGE.name: images})[0]
