"""Kinds of wrong bytes on Triton's ports: other methods, cut streams, broken HTTP/2 on gRPC's, broken HTTP."""

import gzip
import http.client
import json
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
MODEL = f"/v2/models/{contract.TAG_RECOMMENDER.name}"


@dataclass(frozen=True)
class Target:
    """A server, a right request with the scores that it gives, and one small enough for HTTP/2's first window."""

    grpc_url: str
    http_url: str
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


def _wrong_headers(target: Target, rng: Random) -> str:
    more = pick(
        rng,
        {":method": "GET"},
        {"content-type": "text/plain"},
        {":path": "no-slash"},
        {"grpc-timeout": "99999999H"},
        {"grpc-timeout": "-1S"},
        {"te": "x"},
        {"x" * 100: "y" * 100},
        {":path": "/" + "\xff" * 50},
    )
    return _raw(target, http2.opening() + http2.headers(more=more) + http2.data(http2.message(target.small)))


def _broken_frames(target: Target, rng: Random) -> str:
    """Frames that HTTP/2 does not allow."""
    wrong = pick(
        rng,
        http2.frame(http2.DATA, b"x", stream=0),
        http2.frame(http2.HEADERS, rng.bytes(50), flags=http2.END_HEADERS, stream=1),
        http2.frame(http2.CONTINUATION, b"", stream=1),
        http2.frame(http2.WINDOW_UPDATE, bytes(4)),
        http2.frame(http2.WINDOW_UPDATE, b"x"),
        http2.frame(http2.SETTINGS, b"\0\4\xff\xff\xff\xff"),
        http2.frame(http2.PING, b"short"),
        b"\xff\xff\xff" + bytes(6) + rng.bytes(1000),
    )
    return _raw(target, http2.opening() + wrong, patience_s=PATIENCE_S)


def _many_resets(target: Target, rng: Random) -> str:
    """Calls that are reset as soon as they are opened, as in an attack of 2023."""
    streams = range(1, 2 * int(rng.integers(100, 300)), 2)
    body = b"".join(http2.headers(stream=at) + http2.frame(http2.RESET, bytes(4), stream=at) for at in streams)
    return _raw(target, http2.opening() + body, patience_s=PATIENCE_S)


def _many_pings(target: Target, rng: Random) -> str:
    pings = http2.frame(http2.PING, bytes(8)) * int(rng.integers(100, 1000))
    return _raw(target, http2.opening() + pings, patience_s=PATIENCE_S)


def _garbage_bytes(target: Target, rng: Random) -> str:
    """No HTTP/2: noise, HTTP/1, the beginning of TLS, half a preface."""
    body = pick(
        rng,
        rng.bytes(int(rng.integers(24, 5000))),
        b"GET / HTTP/1.1\r\nHost: triton\r\n\r\n",
        b"POST /v2/models HTTP/1.1\r\nHost: triton\r\nContent-Length: 5\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.bytes(500),
        http2.PREFACE[:12],
        http2.PREFACE + rng.bytes(1000),
    )
    return _raw(target, body, patience_s=PATIENCE_S)


def _http(target: Target, path: str, body: bytes, method: str = "POST", **headers: str) -> str:
    connection = http.client.HTTPConnection(target.http_url.removeprefix("http://"), timeout=DEADLINE_S)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return f"HTTP {connection.getresponse().status}"
    except TimeoutError:
        return "hangs"
    except (ConnectionError, http.client.HTTPException):
        return "closed"
    finally:
        connection.close()


def _http_json(target: Target, rng: Random) -> str:
    body = pick(
        rng,
        b"",
        b"{",
        b"null",
        b"[]",
        rng.bytes(500),
        b'{"inputs": 5}',
        b'{"inputs": [{"name": 5, "shape": "x", "datatype": []}]}',
        b'{"inputs": [{"name": "IMAGE", "shape": [1, 224, 224, 3], "datatype": "UINT8", "data": ["x", null, {}]}]}',
        b'{"inputs": [{"name": "IMAGE", "shape": [-1, 1e99], "datatype": "UINT8", "data": [1]}]}',
        b'{"inputs": [{"name": "USER_HISTORY", "shape": [1, 4], "datatype": "FP32", "data": [[[]]]}]}',
        json.dumps({"inputs": [{"name": "IMAGE"}] * 1000}).encode(),
    )
    return _http(target, MODEL + "/infer", body)


def _http_lengths(target: Target, rng: Random) -> str:
    """JSON and tensors' bytes in one body: lengths of both that do not fit."""
    sizes = pick(rng, (-1, 6160), (0, 0), (2**63, 6160), (150528, 6161), (150527, 6160), (2**64 - 1, 1), ("x", None))
    shapes = ([1, *contract.IMAGE.dims], [1, len(target.scores)])
    inputs = [
        {"name": tensor.name, "datatype": tensor.dtype, "shape": shape, "parameters": {"binary_data_size": size}}
        for tensor, shape, size in zip(contract.TAG_RECOMMENDER.inputs, shapes, sizes, strict=True)
    ]
    head = json.dumps({"inputs": inputs}).encode()
    length = pick(rng, str(len(head)), str(len(head) + 1), "0", "-1", "x", str(2**64), "999999999", "1e3")
    body = head + bytes(150528 + 6160)
    return _http(target, MODEL + "/infer", body, Inference_Header_Content_Length=length)


def _http_compression(target: Target, rng: Random) -> str:
    """Plain bytes, noise and cut ones, all called compressed. Whole ones leak: known_crashes.py."""
    body = pick(rng, b'{"inputs": []}', rng.bytes(1000), gzip.compress(bytes(100))[:20])
    return _http(target, MODEL + "/infer", body, Content_Encoding=pick(rng, "gzip", "deflate", "nothing"))


def _http_path(target: Target, rng: Random) -> str:
    path = pick(
        rng,
        "/v2/models/nothing/infer",
        "/v2/models//infer",
        MODEL + "/versions/0/infer",
        MODEL + f"/versions/{2**64}/infer",
        "/v2/models/%00/infer",
        "/../../etc/passwd",
        "/" + "p" * 5000,
        "/v2/repository/models/classifier/load",
    )
    return _http(target, path, b"{}", pick(rng, "POST", "GET", "DELETE", "PUT"))


_HTTP_REFUSALS = frozenset({f"HTTP {status}" for status in (400, 404, 405, 500, 501, 503)})
"""Triton has 500 also for JSON that it cannot read."""

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
    _wrong_headers: frozenset({"trailers", "reset"}),
    _broken_frames: frozenset({"closed", "goaway", "reset", "trailers", "waits"}),
    _many_resets: frozenset({"trailers", "goaway", "closed"}),
    _many_pings: frozenset({"goaway", "closed"}),
    _garbage_bytes: frozenset({"closed", "waits"}),
    _http_json: _HTTP_REFUSALS,
    _http_lengths: _HTTP_REFUSALS,
    _http_compression: _HTTP_REFUSALS,
    _http_path: _HTTP_REFUSALS,
}
"""Each with what may come of it."""
