"""A gRPC server with canned answers, used to measure the load generator's own limit.

    python -m loadtest.run.canned TAGS

serves a vocabulary of TAGS tags on a free loopback port. It prints the port, and ends when its stdin is closed.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from altreco_client import contract
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import serialize_byte_tensor

SERVICE = "inference.GRPCInferenceService"
LARGEST_MESSAGE = 64 * 1024**2
THREADS = 4


class Canned:
    """The two gRPC methods that a client needs to recommend tags."""

    def __init__(self, tags: int) -> None:
        """Prepare for a vocabulary of `tags` tags (the paper's N)."""
        self._tags, self._answers = tags, dict[tuple[int, int], bytes]()

    def metadata(self, request: pb.ModelMetadataRequest, _: grpc.ServicerContext) -> pb.ModelMetadataResponse:
        """Answer with the ensemble's metadata from the contract."""
        answer = pb.ModelMetadataResponse(name=request.name, versions=["1"], platform="ensemble")
        model = contract.TAG_RECOMMENDER
        for tensors, into in ((model.inputs, answer.inputs), (model.outputs, answer.outputs)):
            for tensor in tensors:
                shape = [-1, *(self._tags if dim == -1 else dim for dim in tensor.dims)]
                into.add(name=tensor.name, datatype=tensor.dtype, shape=shape)
        return answer

    def infer(self, request: pb.ModelInferRequest, _: grpc.ServicerContext) -> pb.ModelInferResponse:
        """Answer with the first k tags for every row."""
        rows, k = request.inputs[0].shape[0], request.outputs[0].parameters["classification"].int64_param
        answer = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        answer.outputs.add(name=contract.TAGS.name, datatype="BYTES", shape=[rows, k])
        if (rows, k) not in self._answers:
            row = [f"{1 - i / self._tags:f}:{i}:tag-{i}".encode() for i in range(k)]
            self._answers[rows, k] = serialize_byte_tensor(np.array([row] * rows, dtype=np.object_)).item()
        answer.raw_output_contents.append(self._answers[rows, k])
        return answer


def main(tags: int) -> None:
    """Serve until stdin is closed."""
    canned = Canned(tags)
    methods: Any = {
        "ModelMetadata": (canned.metadata, pb.ModelMetadataRequest),
        "ModelInfer": (canned.infer, pb.ModelInferRequest),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            method, request_deserializer=kind.FromString, response_serializer=lambda answer: answer.SerializeToString()
        )
        for name, (method, kind) in methods.items()
    }
    server = grpc.server(
        ThreadPoolExecutor(THREADS),
        handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)],
        options=[("grpc.max_receive_message_length", LARGEST_MESSAGE)],
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0).wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
