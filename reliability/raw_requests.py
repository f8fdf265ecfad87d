"""Serialized valid requests, to be sent without a client or to be damaged."""

from pathlib import Path

import numpy as np
from altreco_client import contract
from tritonclient.grpc import service_pb2 as pb

from export.config import vocabulary_size


def ensemble_request(repository: Path) -> bytes:
    """Serialize a request to the ensemble with a noise picture and a history; 150 KiB."""
    picture = np.random.default_rng(0).bytes(int(np.prod(contract.IMAGE.dims)))
    return _request(contract.TAG_RECOMMENDER, picture, _history(repository))


def small_request(repository: Path) -> bytes:
    """Serialize a request to the preference encoder; it fits into HTTP/2's initial window of 64 KiB."""
    return _request(contract.PREFERENCE_ENCODER, _history(repository))


def _history(repository: Path) -> bytes:
    counts = np.random.default_rng(0).poisson(0.05, vocabulary_size(repository))
    return counts.astype(np.float32).tobytes()


def _request(model: contract.Model, *values: bytes) -> bytes:
    request = pb.ModelInferRequest(model_name=model.name, raw_input_contents=values)
    for tensor, raw in zip(model.inputs, values, strict=True):
        tags = len(raw) // np.dtype(np.float32).itemsize
        shape = [1, *(tags if dim == -1 else dim for dim in tensor.dims)]
        request.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=shape)
    return request.SerializeToString()
