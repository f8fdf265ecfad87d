"""Malformed gRPC calls: other methods and messages, streams and requests cut short, wrong lengths and compression."""

import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import grpc
import numpy as np
from altreco_client import contract
from tritonclient.grpc import service_pb2 as pb

from reliability import http2
from reliability.malformations import CLASSES, FINITE, NOT_FINITE, RIGHT, Random, pick
from reliability.questions import ALLOWED

DEADLINE_S = 30.0
"""Of every attempt: what takes longer hangs."""
PATIENCE_S = 0.5
"""For a server that rightly waits for the rest of a request, before the rest is given up."""
SERVICE = "/inference.GRPCInferenceService/"


@dataclass(frozen=True)
class Target:
    """A server, a right request with the scores that it gives, and one small enough for HTTP/2's first window."""

    grpc_url: str
    channel: grpc.Channel
    request: bytes
    small: bytes
    scores: np.ndarray


Attempt = Callable[[Target, Random], str]
"""What came of it: a status."""


def scores_in(answer: bytes) -> np.ndarray:
    """The first output as numbers."""
    return np.frombuffer(pb.ModelInferResponse.FromString(answer).raw_output_contents[0], np.float32)


def judged(target: Target, answer: bytes) -> str:
    """What an answer is worth, against the scores of the right request."""
    if pb.ModelInferResponse.FromString(answer).outputs[0].datatype == "BYTES":
        return CLASSES
    scores = scores_in(answer)
    if not np.isfinite(scores).all():
        return NOT_FINITE
    same = scores.shape == target.scores.shape and np.allclose(scores, target.scores, rtol=0, atol=ALLOWED)
    return RIGHT if same else FINITE


def call(target: Target, path: str, body: bytes) -> str:
    """One call with a message of any bytes: the status of the error, or what the answer is worth."""
    try:
        answer = target.channel.unary_unary(path)(body, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        return str(error.code().name)
    return judged(target, answer) if path == http2.INFER else "OK"


def _unknown_method(target: Target, rng: Random) -> str:
    path = pick(rng, "/", "/x/y", SERVICE, SERVICE + "Nothing", SERVICE + "modelinfer", "/" + "m" * 4000)
    return call(target, path, target.request)


def _message_of_another_method(target: Target, rng: Random) -> str:
    """An inference request, or what is none, where the server expects something else."""
    method = pick(rng, "ServerLive", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex")
    return call(target, SERVICE + method, pick(rng, target.request, rng.bytes(100), b"\x0a\xff\xff\xff\xff\x07"))


def _administration(target: Target, rng: Random) -> str:
    """Of what is not there, or not allowed."""
    region = {"name": "nothing", "key": pick(rng, "/nothing", "../../etc/passwd", ""), "byte_size": 2**63}
    method, message = pick(
        rng,
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=contract.CLASSIFIER.name)),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=contract.CLASSIFIER.name)),
        ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(**region)),
        ("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(name="nothing", raw_handle=rng.bytes(64))),
    )
    return call(target, SERVICE + method, message.SerializeToString())


def _garbage_stream(target: Target, rng: Random) -> str:
    """A right message on a stream, then a wrong one; what the last answer is, or the call's status."""
    wrong = pick(rng, rng.bytes(500), target.request[: int(rng.integers(1, 150_000))], b"")

    def messages() -> Iterator[bytes]:
        yield target.request
        yield wrong

    try:
        answers = list(target.channel.stream_stream(http2.STREAM_INFER)(messages(), timeout=DEADLINE_S))
    except grpc.RpcError as error:
        return str(error.code().name)
    return (
        "error in the stream" if pb.ModelStreamInferResponse.FromString(answers[-1]).error_message else "stream ended"
    )


def _cancelled_stream(target: Target, rng: Random) -> str:
    calls = target.channel.stream_stream(http2.STREAM_INFER)(iter([target.request] * 3), timeout=DEADLINE_S)
    if rng.random() < 0.5:
        next(calls)
    calls.cancel()
    return str(calls.code().name)


def _raw(target: Target, body: bytes, *, patience_s: float = DEADLINE_S) -> str:
    """The bytes on a connection of their own, and how it ended; of what is cut, "waits" is right."""
    with http2.connect(target.grpc_url, timeout_s=patience_s) as connection:
        try:
            connection.sendall(body)
        except ConnectionError:
            return "closed"
        return http2.what_came(connection)


def _cut_request(target: Target, rng: Random) -> str:
    """The connection ends in the middle of a message, politely or by a reset; of a single call or of a stream."""
    whole = http2.headers(pick(rng, http2.INFER, http2.STREAM_INFER)) + http2.data(http2.message(target.small))
    with http2.connect(target.grpc_url) as connection:
        if rng.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(http2.opening() + whole[: int(rng.integers(1, len(whole)))])
    return "gone"


def _unfinished_request(target: Target, rng: Random) -> str:
    """Half of it, and nothing more until the server has had the time to answer."""
    body = http2.message(target.small)
    part = http2.data(body[: int(rng.integers(len(body)))], end=False)
    return _raw(target, http2.opening() + http2.headers() + part, patience_s=PATIENCE_S)


def _wrong_message_length(target: Target, rng: Random) -> str:
    """Of gRPC's prefix; the stream ends with the bytes that are there."""
    length = pick(rng, 0, 1, len(target.small) - 1, len(target.small) + 1, 2**31, 2**32 - 1)
    body = http2.data(http2.message(target.small, length=length))
    return _raw(target, http2.opening() + http2.headers() + body)


def _wrong_compression(target: Target, rng: Random) -> str:
    """The compressed flag on plain bytes, encodings that do not exist, flags that do not exist."""
    encoding = pick(rng, {}, {"grpc-encoding": "gzip"}, {"grpc-encoding": "deflate"}, {"grpc-encoding": "nothing"})
    body = http2.data(http2.message(target.small, flag=pick(rng, 1, 2, 7, 255)))
    return _raw(target, http2.opening() + http2.headers(more=encoding) + body)


ATTEMPTS: Mapping[Attempt, frozenset[str]] = {
    _unknown_method: frozenset({"UNIMPLEMENTED"}),
    _message_of_another_method: frozenset({"OK", "INTERNAL", "UNIMPLEMENTED", "NOT_FOUND", "INVALID_ARGUMENT"}),
    _administration: frozenset({"UNAVAILABLE", "INTERNAL", "INVALID_ARGUMENT"}),  # "load / unload is not allowed"
    _garbage_stream: frozenset({"error in the stream", "stream ended"}),
    _cancelled_stream: frozenset({"CANCELLED"}),
    _cut_request: frozenset({"gone"}),
    _unfinished_request: frozenset({"waits"}),
    _wrong_message_length: frozenset({"trailers", "reset"}),
    _wrong_compression: frozenset({"trailers", "reset"}),
}
"""Each with what may come of it."""
