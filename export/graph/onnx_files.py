"""Run the three ONNX files of a release with ONNX Runtime in this process."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from altreco_client import contract
from altreco_client.text import printable
from numpy.typing import NDArray

from export.errors import ReleaseError
from export.golden import Recommender


def onnx_recommender(files: Mapping[str, Path]) -> Recommender:
    """A recommender that runs the models (name to file) on the CPU, chained as in the ensemble. Raises ReleaseError."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warning for every float16 weight that the CPU has to convert
    sessions = {name: _session(path, options) for name, path in files.items()}

    def recommend(image: NDArray[np.uint8], counts: NDArray[np.float32]) -> NDArray[np.float32]:
        tensors: dict[str, NDArray] = {contract.IMAGE.name: image, contract.USER_TAG_COUNTS.name: counts}
        for model in contract.COMPONENTS:
            feed = {tensor.name: tensors[tensor.name] for tensor in model.inputs}
            names = [tensor.name for tensor in model.outputs]
            tensors.update(zip(names, sessions[model.name].run(names, feed), strict=True))
        return tensors[contract.TAGS.name]

    return recommend


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise ReleaseError(f"ONNX Runtime cannot load {path}: {printable(str(error))[:500]}") from error
