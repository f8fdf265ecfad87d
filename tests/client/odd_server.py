"""A gRPC server in this process that answers as no Triton would: what a broken or hostile server sends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from altreco_client import PreparedImage, contract
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

TAGS = ("sea", "beach", "sky", "dog")
PICTURE = PreparedImage(np.zeros((224, 224, 3), dtype=np.uint8))
WAIT_S = 30.0
"""After which a condition that does not come true fails a test."""


def closed_port() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def metadata(n: int = len(TAGS), *, release: str = "1") -> pb.ModelMetadataResponse:
    """The ensemble's, as the contract has it."""
    answer = pb.ModelMetadataResponse(name="tag_recommender", versions=[release], platform="ensemble")
    model = contract.TAG_RECOMMENDER
    for tensors, into in ((model.inputs, answer.inputs), (model.outputs, answer.outputs)):
        for tensor in tensors:
            shape = [-1, *(n if dim == -1 else dim for dim in tensor.dims)]
            into.add(name=tensor.name, datatype=tensor.dtype, shape=shape)
    return answer


def strings(entries: list[bytes]) -> bytes:
    """The contents of a BYTES tensor."""
    return b"".join(len(entry).to_bytes(4, "little") + entry for entry in entries)


def ranking(rows: list[list[bytes]], *, release: str = "1") -> pb.ModelInferResponse:
    """An answer with these entries `score:index:label`."""
    answer = pb.ModelInferResponse(model_name="tag_recommender", model_version=release)
    answer.outputs.add(name="TAGS", datatype="BYTES", shape=[len(rows), len(rows[0])])
    answer.raw_output_contents.append(strings([entry for row in rows for entry in row]))
    return answer


def honest(rows: int, k: int, tags: tuple[str, ...] = TAGS, *, release: str = "1") -> pb.ModelInferResponse:
    entries = [f"{1 - i / len(tags):f}:{i}:{tag}".encode() for i, tag in enumerate(tags[:k])]
    return ranking([entries] * rows, release=release)


@dataclass
class Odd(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Honest, but for what is set. `asked` has the rows and k of each inference."""

    tags: tuple[str, ...] = TAGS
    metadata: Callable[[], pb.ModelMetadataResponse] | None = None
    answer: Callable[[int, int], pb.ModelInferResponse] | None = None
    """Replaces the honest answer for (rows, k), but for the vocabulary's, which is the first."""
    abort: tuple[grpc.StatusCode, str] | None = None
    go: threading.Event = field(default_factory=threading.Event)
    """Inferences wait for it."""
    asked: list[tuple[int, int]] = field(default_factory=list)
    release: str = "1"
    candidate: Odd | None = None
    """Answers for the candidate's model, which is not loaded without it."""
    missed: list[str] = field(default_factory=list)
    """The candidate's model, once for each question that came without it."""

    def _of(self, model: str, context: grpc.ServicerContext) -> Odd:
        if model != contract.CANDIDATE.name:
            return self
        if self.candidate is None:
            self.missed.append(model)
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{model}' has no available versions")
        assert self.candidate
        return self.candidate

    def ServerMetadata(self, request: Any, context: grpc.ServicerContext) -> pb.ServerMetadataResponse:  # noqa: N802
        return pb.ServerMetadataResponse(name="triton\x1b[2K", version="2.51.0\n")

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> pb.ModelReadyResponse:  # noqa: N802
        return pb.ModelReadyResponse(ready=self.go.is_set())

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> pb.ModelMetadataResponse:  # noqa: N802
        of = self._of(request.name, context)
        return of.metadata() if of.metadata else metadata(len(of.tags), release=of.release)

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> pb.ModelInferResponse:  # noqa: N802
        of = self._of(request.model_name, context)
        if of is not self:
            of.go.set()
            return of.ModelInfer(pb.ModelInferRequest(inputs=request.inputs, outputs=request.outputs), context)
        rows, k = request.inputs[0].shape[0], request.outputs[0].parameters["classification"].int64_param
        self.asked.append((rows, k))
        self.go.wait(WAIT_S)
        if self.abort:
            context.abort(*self.abort)
        if self.answer and len(self.asked) > 1:
            return self.answer(rows, k)
        return honest(rows, k, self.tags, release=self.release)


@contextmanager
def serving(odd: Odd, address: str = "127.0.0.1:0", *, going: bool = True) -> Iterator[str]:
    """Serve on loopback; gives host:port."""
    if going:
        odd.go.set()
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 2**28)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(odd, server)
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield f"{address.rpartition(':')[0]}:{port}"
    finally:
        odd.go.set()
        server.stop(None).wait()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)
