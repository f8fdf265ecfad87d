"""LitServe with its own batching, on ONNX Runtime: `python -m benchmark.peers.litserve.server PORT`."""

import os
import signal
import sys
from typing import Annotated, Any

import litserve
from fastapi import Depends, Request

from benchmark.peers.answers import Answer, read_bodies
from benchmark.peers.onnx_tags import OnnxTags
from benchmark.peers.tuning import given, repository

BATCH_TIMEOUT_S = 0.001


async def _body(request: Request) -> bytes:
    return await request.body()


class TagAPI(litserve.LitAPI):
    """POST /predict with the bytes of picture and history; LitServe by itself reads JSON or forms only."""

    def setup(self, device: Any) -> None:
        """In each worker."""
        tuning = given()
        self._tags = OnnxTags(repository(), threads=tuning.threads, spin=tuning.spin)

    def decode_request(self, request: Annotated[bytes, Depends(_body)]) -> bytes:
        """As they came."""
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Put together when they are read."""
        return inputs

    def predict(self, x: Any) -> Any:
        """A list of bodies where batches are on, else one."""
        answers = self._tags.answer(*read_bodies(x if isinstance(x, list) else [x], self._tags.image_dims))
        return answers if isinstance(x, list) else answers[0]

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """An answer each."""
        return output

    def encode_response(self, output: Answer) -> list[list[Any]]:
        """As JSON."""
        return [[tag, score] for tag, score in output]


def _end(*_: object) -> None:
    """Of all processes at once: LitServe ends its workers after Ctrl-C only, and may wait for one for ever."""
    os.killpg(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Serve until it is ended; the process leads a group of its own."""
    signal.signal(signal.SIGTERM, _end)
    tuning = given()
    api = TagAPI(max_batch_size=tuning.batch, batch_timeout=BATCH_TIMEOUT_S if tuning.batch > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=tuning.workers, timeout=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)


if __name__ == "__main__":
    main()
