"""The parity gate: the exported models must answer as the PyTorch model does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from altreco_client import contract
from numpy.typing import NDArray

from export.errors import ParityError
from training.model import ALTReco

TOLERANCE = 1e-4
"""Largest accepted difference of any tag's probability."""

BATCH_SIZES = (1, 3, 8)
"""None is the size that the export was traced with."""


def onnx_recommender(files: dict[str, Path]) -> Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]:
    """The three ONNX files chained as the ensemble chains them: (IMAGE, USER_HISTORY) to TAGS, with a batch first."""
    sessions = {
        name: onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for name, path in files.items()
    }

    def recommend(image: NDArray[np.uint8], history: NDArray[np.float32]) -> NDArray[np.float32]:
        tensors: dict[str, NDArray] = {contract.IMAGE.name: image, contract.USER_HISTORY.name: history}
        for model in contract.COMPONENTS:
            feed = {tensor.name: tensors[tensor.name] for tensor in model.inputs}
            names = [tensor.name for tensor in model.outputs]
            tensors.update(zip(names, sessions[model.name].run(names, feed), strict=True))
        return tensors[contract.TAGS.name]

    return recommend


def check_parity(model: ALTReco, files: dict[str, Path], tags: int) -> float:
    """Max abs difference between PyTorch and the ONNX files, at several batch sizes, with and without history.

    Raises ParityError above 1e-4. `tags` is N.
    """
    recommend = onnx_recommender(files)
    differences = []
    for batch in BATCH_SIZES:
        image, history = _examples(batch, tags)
        with torch.inference_mode():
            expected = model.recommend(torch.from_numpy(image), torch.from_numpy(history)).numpy()
        differences.append(float(np.abs(recommend(image, history) - expected).max()))
    # Not "any over": a NaN must not pass.
    if not all(difference <= TOLERANCE for difference in differences):
        by_batch = ", ".join(f"{d:.1e} at batch {b}" for b, d in zip(BATCH_SIZES, differences, strict=True))
        raise ParityError(
            f"the ONNX models differ from the PyTorch model by {by_batch}; at most {TOLERANCE} is allowed"
        )
    return max(differences)


def _examples(batch: int, tags: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Noise pictures, and sparse histories of which the first is empty (cold start)."""
    rng = np.random.default_rng(batch)
    image = rng.integers(0, 256, (batch, *contract.IMAGE.dims), dtype=np.uint8)
    history = rng.random((batch, tags), dtype=np.float32) * (rng.random((batch, tags)) < 0.05)
    history[0] = 0
    return image, history.astype(np.float32)
