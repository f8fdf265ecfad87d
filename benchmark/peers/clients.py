"""Clients of the contestants. Each keeps a connection, sends a picture and a history, and reads five tags."""

import http
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import urllib3
from altreco_client import contract
from altreco_client.call.wire import inputs, ranked, read_answer, read_tensor

from benchmark.peers.answers import ANSWERED_TAGS, Answer, write_body
from benchmark.peers.errors import PeerError
from export.served import DEADLINE_S, connected

Ask = Callable[[np.ndarray, np.ndarray], Answer]
"""Maps image uint8 [1, 224, 224, 3] and tag counts float32 [1, N] to the answer."""

Connect = Callable[[str], AbstractContextManager[Ask]]
"""Opens a connection to host:port."""

PATH = "/predict"
BOUNDARY = "----a-picture-and-a-history"
SHOWN = 200
"""Number of bytes that are shown of an unexpected response."""


@contextmanager
def ensemble(address: str) -> Iterator[Ask]:
    """Call the ensemble over gRPC. Raises ServerFailure."""
    outputs = ranked(ANSWERED_TAGS)
    with connected(address) as client:

        def ask(image: np.ndarray, counts: np.ndarray) -> Answer:
            tensors = inputs((contract.IMAGE, image), (contract.USER_TAG_COUNTS, counts))
            result = client.infer(contract.TAG_RECOMMENDER.name, tensors, outputs=outputs, client_timeout=DEADLINE_S)
            return _tags(result, counts.shape[1])

        yield ask


@contextmanager
def three_calls(address: str) -> Iterator[Ask]:
    """Call the three models one after the other over gRPC. Raises ServerFailure."""
    outputs = ranked(ANSWERED_TAGS)
    with connected(address) as client:

        def ask(image: np.ndarray, counts: np.ndarray) -> Answer:
            def call(model: contract.Model, *tensors: tuple[contract.Tensor, np.ndarray]) -> triton.InferResult:
                last = outputs if model is contract.CLASSIFIER else None
                return client.infer(model.name, inputs(*tensors), outputs=last, client_timeout=DEADLINE_S)

            shape = counts.shape
            picture = call(contract.VISUAL_ENCODER, (contract.IMAGE, image))
            encoding = read_tensor(picture, contract.VISUAL_ENCODING, *shape)
            user = call(contract.PREFERENCE_ENCODER, (contract.USER_TAG_COUNTS, counts))
            passed = [(tensor, read_tensor(user, tensor, *shape)) for tensor in contract.PREFERENCE_ENCODER.outputs]
            return _tags(call(contract.CLASSIFIER, (contract.VISUAL_ENCODING, encoding), *passed), shape[1])

        yield ask


@contextmanager
def raw_post(address: str) -> Iterator[Ask]:
    """POST raw bytes and read JSON. Raises HTTPError, PeerError."""
    with _pool(address) as pool:

        def ask(image: np.ndarray, counts: np.ndarray) -> Answer:
            return _pairs(_post(pool, write_body(image, counts), "application/octet-stream"))

        yield ask


@contextmanager
def form_post(address: str) -> Iterator[Ask]:
    """POST the same bytes as a file in a form and read a list with one answer. Raises HTTPError, PeerError."""
    before = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="bodies"; filename="body"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    with _pool(address) as pool:

        def ask(image: np.ndarray, counts: np.ndarray) -> Answer:
            body = before + write_body(image, counts) + after
            (answer,) = _post(pool, body, f"multipart/form-data; boundary={BOUNDARY}")
            return _pairs(answer)

        yield ask


def _pool(address: str) -> urllib3.HTTPConnectionPool:
    host, port = address.split(":")
    return urllib3.HTTPConnectionPool(host, int(port), maxsize=1, block=True, timeout=DEADLINE_S, retries=False)


def _post(pool: urllib3.HTTPConnectionPool, body: bytes, content_type: str) -> Any:
    answer = pool.request("POST", PATH, body=body, headers={"Content-Type": content_type})
    if answer.status != http.HTTPStatus.OK:
        said = answer.data[:SHOWN].decode(errors="replace")
        raise PeerError(f"{pool.host}:{pool.port}{PATH} answered {answer.status}: {said}")
    return json.loads(answer.data)


def _pairs(answer: Any) -> Answer:
    return [(tag, score) for tag, score in answer]


def _tags(result: triton.InferResult, n: int) -> Answer:
    return [(entry.label, entry.score) for entry in read_answer(result, 1, ANSWERED_TAGS, n).rows[0]]
