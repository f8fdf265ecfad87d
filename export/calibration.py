"""int8 calibration: the pictures it is done with, and the ranges of the activations on them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from altreco_client import contract
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, TensorsData, create_calibrator

from export.quality import spread
from training.data.dataset import EvaluationPictures
from training.data.histories import Histories
from training.data.manifest import Manifest

CALIBRATION_PICTURES = 128

FEWEST_PICTURES = 16
"""Smallest calibration set. The ranges of fewer pictures tell more about the pictures than about the network."""


def calibration_pictures(manifest: Manifest, histories: Histories) -> NDArray[np.uint8]:
    """Load training pictures as sent over gRPC, uint8 [pictures, 224, 224, 3]."""
    rows = spread(manifest.rows("train"), CALIBRATION_PICTURES)
    pictures = EvaluationPictures(manifest, histories, rows)
    return np.stack([pictures[i][0] for i in range(len(rows))])


def activation_ranges(model: Path, calibration: NDArray[np.uint8]) -> TensorsData:
    """Measure the smallest and largest value of each activation over all pictures. Writes a file beside the model."""
    calibrator = create_calibrator(model, augmented_model_path=str(model.with_name("ranges.onnx")))
    calibrator.collect_data(_Pictures(calibration))
    return calibrator.compute_data()


class _Pictures(CalibrationDataReader):
    """Calibration pictures one by one, so that the activations of all layers fit into memory."""

    def __init__(self, calibration: NDArray[np.uint8]) -> None:
        self.feeds: Iterator[dict[str, NDArray]] = ({contract.IMAGE.name: image[None]} for image in calibration)

    def get_next(self) -> dict[str, NDArray] | None:
        """Return the next picture, or None after the last."""
        return next(self.feeds, None)
