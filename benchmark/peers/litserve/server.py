"""LitServe with its own batching and ONNX Runtime: `python -m benchmark.peers.litserve.server PORT`."""

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
    """POST /predict with the bytes of picture and history. By default LitServe reads only JSON and forms."""

    def setup(self, device: Any) -> None:
        """Load the models in a worker."""
        tuning = given()
        self._tags = OnnxTags(repository(), threads=tuning.threads, spin=tuning.spin)

    def decode_request(self, request: Annotated[bytes, Depends(_body)]) -> bytes:
        """Return the bytes unchanged."""
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Return the bodies unchanged: `predict` stacks them."""
        return inputs

    def predict(self, x: Any) -> Any:
        """Answer a list of bodies if batches are on, otherwise one body."""
        answers = self._tags.answer(*read_bodies(x if isinstance(x, list) else [x], self._tags.image_dims))
        return answers if isinstance(x, list) else answers[0]

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """Return the answers unchanged, one per body."""
        return output

    def encode_response(self, output: Answer) -> list[list[Any]]:
        """Convert an answer to JSON values."""
        return [[tag, score] for tag, score in output]


def _end(*_: object) -> None:
    """Kill all processes at once: LitServe ends its workers only on Ctrl-C, and may wait for one forever."""
    os.killpg(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Serve until terminated. The process leads its own group."""
    signal.signal(signal.SIGTERM, _end)
    tuning = given()
    api = TagAPI(max_batch_size=tuning.batch, batch_timeout=BATCH_TIMEOUT_S if tuning.batch > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=tuning.workers, timeout=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)


if __name__ == "__main__":
    main()
