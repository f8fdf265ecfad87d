"""A visual encoder for Triton's Python backend that takes a given time; see `slow_model.py`.

Beside it lie the files `seconds`, how long a batch takes, and `executed`, the request ids of all batches so far.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb
from triton_tensors import from_triton, to_triton

POLL_S = 0.002


class TritonPythonModel:
    """The name and the methods are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Find the folder of the two files."""
        self._folder = Path(pb.get_model_dir())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Note the requests, wait, and answer."""
        started = time.monotonic()
        with (self._folder / "executed").open("a") as executed:
            executed.writelines(f"{request.request_id()}\n" for request in requests)
        while time.monotonic() < started + float((self._folder / "seconds").read_text()):
            time.sleep(POLL_S)
        return [_answer(request) for request in requests]


def _answer(request: Any) -> Any:
    """Some of the picture's pixels, [batch, 64, 7, 7]."""
    image = from_triton(pb.get_input_tensor_by_name(request, "IMAGE"))
    pixels = image.reshape(len(image), -1)[:, : 64 * 7 * 7]
    encoding = (pixels / np.float32(255)).reshape(-1, 64, 7, 7)
    return pb.InferenceResponse([to_triton("VISUAL_ENCODING", encoding)])
