"""What a release's ONNX files compute in: float32, float16 for GPUs, int8 for CPUs with VNNI.

Whatever the precision, what ONNX Runtime can do ahead of time to a file that stays portable is done ahead: level BASIC,
constants folded, what does nothing removed, batch normalization merged into convolutions. PyTorch's exporter does most
of that itself: of the present models no node is left to remove. The levels above, EXTENDED and ALL, put operators of
ONNX Runtime's own in place, for one execution provider, this CPU's vector width (blocked layout) and this version of
ONNX Runtime: TensorRT or an older container would refuse the file. ONNX Runtime does those when it loads it.
"""

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

    `calibration` gives training pictures, uint8 [pictures, 224, 224, 3]; only int8 asks for them. Answers with the
    names of the nodes that int8 kept in float as quantization hurts there. Raises ExportError for too few pictures.

    Names, types and shapes of inputs and outputs stay, and so does the metadata. int8 is the visual encoder's alone,
    which is 95 % of the time; the other models stay float32.
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
    """As level BASIC leaves it, in the operator sets that the file had."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "model.onnx"
        options.optimized_model_filepath = str(optimized)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(optimized)
    # ONNX Runtime names every operator set that it knows, and a version that does not know them refuses the file.
    imports = onnx.load(path, load_external_data=False).opset_import
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return model


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    """float16 but for inputs and outputs."""
    with warnings.catch_warnings():
        # Weights that float16 cannot hold become its smallest or largest number; if that matters, the gates say so.
        warnings.simplefilter("ignore")
        return convert_float_to_float16(model, keep_io_types=True)


def _replace(files: Mapping[str, Path], models: Mapping[str, onnx.ModelProto]) -> None:
    """Write all beside, then rename."""
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
