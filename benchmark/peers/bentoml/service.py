"""BentoML with its adaptive batching and ONNX Runtime: `bentoml serve benchmark.peers.bentoml.service:Tags`.

A batchable method takes one argument, and over HTTP it gets raw bytes only as an uploaded file, which BentoML writes to
its temporary folder. So picture and history are one file.
"""

from pathlib import Path
from typing import Any

import bentoml

from benchmark.peers.answers import read_bodies
from benchmark.peers.onnx_tags import OnnxTags
from benchmark.peers.tuning import given, repository

TUNING = given()
LONGEST_WAIT_MS = 60_000
"""BentoML refuses requests that it expects to take longer."""


@bentoml.service(workers=TUNING.workers, threads=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Tags:
    """POST /predict with the form field `bodies`."""

    def __init__(self) -> None:
        """Load the models in a worker."""
        self._tags = OnnxTags(repository(), threads=TUNING.threads, spin=TUNING.spin)

    @bentoml.api(batchable=TUNING.batch > 1, max_batch_size=max(2, TUNING.batch), max_latency_ms=LONGEST_WAIT_MS)
    def predict(self, bodies: list[Path]) -> list[Any]:
        """Answer each file."""
        return self._tags.answer(*read_bodies([body.read_bytes() for body in bodies], self._tags.image_dims))
