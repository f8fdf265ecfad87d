"""int8 for CPUs with VNNI: static quantization that keeps the layers that it would hurt in float.

Weights are signed and have a scale per output channel; activations are unsigned (u8 x s8 is what VNNI multiplies) and
have one scale per tensor. The file stays ONNX: QuantizeLinear and DequantizeLinear around float operators, which ONNX
Runtime fuses into integer ones (QLinearConv, QLinearAdd) when it loads the file.
"""

import bisect
import copy
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from altreco_client import contract
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QDQQuantizer,
    QuantType,
    TensorsData,
    create_calibrator,
)

from export.errors import ExportError

FEWEST_PICTURES = 16
"""Below, the ranges of the activations say more about the pictures than about the network."""

PROBES = 8
"""Calibration pictures that errors are measured on."""

ERROR_ALLOWED = 0.1
"""Relative error of the output, root mean square, above which layers are put back into float."""

LAYERS = ("Conv", "Gemm", "MatMul")
QUANTIZED = (*LAYERS, "Relu", "Add", "MaxPool", "AveragePool", "GlobalAveragePool")


def quantize(model: onnx.ModelProto, calibration: NDArray[np.uint8]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model in int8, and the names of the nodes kept in float because quantization hurts there.

    `calibration`: uint8 [pictures, 224, 224, 3]. Raises ExportError for too few. What precedes the first layer, the
    normalization, stays in float too: it is cheap there, and as QLinearMul and QLinearAdd it is not.
    """
    pictures = len(calibration)
    if pictures < FEWEST_PICTURES or calibration.shape[1:] != contract.IMAGE.dims:
        raise ExportError(
            f"int8 needs training pictures to calibrate on: expected at least {FEWEST_PICTURES} of "
            f"{list(contract.IMAGE.dims)}, found {pictures} of {list(calibration.shape[1:])}; name a data set that has "
            "them with --data, or release fp32"
        )
    return _Quantization(model, calibration).search()


class _Quantization:
    """One model, the ranges of its activations, and what it answers in float."""

    def __init__(self, model: onnx.ModelProto, calibration: NDArray[np.uint8]) -> None:
        self.model = model
        self.ranges = _ranges(model, calibration)
        self.probes = calibration[np.linspace(0, len(calibration) - 1, PROBES).astype(np.int64)]
        self.answer = _run(model, self.probes)
        first = next(i for i, node in enumerate(model.graph.node) if node.op_type in LAYERS)
        self.front = [node.name for node in model.graph.node[:first]]
        self.nodes = [node.name for node in model.graph.node[first:] if node.op_type in QUANTIZED]

    def search(self) -> tuple[onnx.ModelProto, tuple[str, ...]]:
        """Everything in int8 but as few as possible of the nodes that hurt most when they alone are in int8."""
        model = self.without(())
        if self.error(model) <= ERROR_ALLOWED:
            return model, ()
        alone = {name: self.error(self.without(set(self.nodes) - {name})) for name in self.nodes}
        worst_first = sorted(self.nodes, key=lambda name: -alone[name])
        count = bisect.bisect_left(
            range(len(self.nodes)), True, key=lambda n: self.error(self.without(worst_first[:n])) <= ERROR_ALLOWED
        )
        return self.without(worst_first[:count]), tuple(worst_first[:count])

    def without(self, in_float: Iterable[str]) -> onnx.ModelProto:
        """Quantized but for these nodes."""
        quantizer = QDQQuantizer(
            copy.deepcopy(self.model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*self.front, *in_float],
            op_types_to_quantize=list(QUANTIZED),
            extra_options={},
        )
        return quantizer.quantize_model()

    def error(self, model: onnx.ModelProto) -> float:
        """Of its answers, relative to the float model's, root mean square."""
        difference = _run(model, self.probes) - self.answer
        return float(np.linalg.norm(difference) / np.linalg.norm(self.answer))


class _Pictures(CalibrationDataReader):
    """One at a time, so that the ranges of all activations need little memory."""

    def __init__(self, calibration: NDArray[np.uint8]) -> None:
        self.feeds: Iterator[dict[str, NDArray]] = ({contract.IMAGE.name: image[None]} for image in calibration)

    def get_next(self) -> dict[str, NDArray] | None:
        """What the calibrator asks for until there is None."""
        return next(self.feeds, None)


def _ranges(model: onnx.ModelProto, calibration: NDArray[np.uint8]) -> TensorsData:
    """Smallest and largest value of each activation over all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(path, augmented_model_path=str(Path(folder) / "ranges.onnx"))
        calibrator.collect_data(_Pictures(calibration))
        return calibrator.compute_data()


def _run(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([contract.VISUAL_ENCODING.name], {contract.IMAGE.name: images})[0]
