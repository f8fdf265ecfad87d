"""Triton's `onnxruntime` backend in Python, for servers that have no native one: runs ONNX files on ONNX Runtime.

Triton imports this file in a process of its own for every model instance whose config says backend "onnxruntime".
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb
from onnx_session import HONOURED_PARAMETERS, model_path, open_for_reading, open_session
from onnx_signature import check_config, complete_config, read_signature

Arrays = dict[str, np.ndarray]


class TritonPythonModel:
    """One instance of a model; the name and the methods are Triton's."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what config.pbtxt leaves out, from the ONNX file."""
        given = config.as_dict()
        if not (given.get("input") and given.get("output")):
            complete_config(config, read_signature(open_for_reading(model_path(given, Path(pb.get_model_dir())))))
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model, or raise with the reason why it does not fit its config."""
        config = json.loads(args["model_config"])
        self._session = open_session(
            config,
            Path(pb.get_model_dir()),
            kind=args["model_instance_kind"],
            device_id=int(args["model_instance_device_id"]),
        )
        signature = read_signature(self._session)
        check_config(config, signature)
        self._batched = int(config["max_batch_size"]) > 0
        self._text_inputs = {tensor.name for tensor in signature.inputs if tensor.data_type == "TYPE_STRING"}
        for name in sorted(config.get("parameters", {}).keys() - HONOURED_PARAMETERS):
            pb.Logger.log_warn(f"model '{args['model_name']}': parameter '{name}' has no effect in the local backend")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer every request, with as few runs as their shapes allow."""
        responses: list[Any] = [None] * len(requests)
        groups = defaultdict(list)
        inputs: dict[int, Arrays] = {}
        for index, request in enumerate(requests):
            try:
                inputs[index] = self._inputs(request)
            except UnicodeDecodeError as error:
                responses[index] = _failure(error)
            else:
                groups[self._group(index, inputs[index])].append(index)
        for group in groups.values():
            answers = self._answer([requests[index] for index in group], [inputs[index] for index in group])
            for index, answer in zip(group, answers, strict=True):
                responses[index] = answer
        return responses

    def _inputs(self, request: Any) -> Arrays:
        arrays = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        return {name: _decoded(array) if name in self._text_inputs else array for name, array in arrays.items()}

    def _group(self, index: int, inputs: Arrays) -> Any:
        """Requests of the same group can share a run: their shapes differ in the batch dimension only."""
        return tuple(sorted((name, array.shape[1:]) for name, array in inputs.items())) if self._batched else index

    def _answer(self, requests: Sequence[Any], inputs: Sequence[Arrays]) -> list[Any]:
        try:
            return self._run(requests, inputs)
        except Exception as error:  # whatever a request provokes is the answer to that request
            if len(requests) == 1:
                return [_failure(error)]
        # One of them is bad. Alone, each gets its own answer.
        return [self._answer([request], [arrays])[0] for request, arrays in zip(requests, inputs, strict=True)]

    def _run(self, requests: Sequence[Any], inputs: Sequence[Arrays]) -> list[Any]:
        wanted = sorted({name for request in requests for name in request.requested_output_names()})
        if len(requests) == 1:
            feeds = inputs[0]
        else:
            feeds = {name: np.concatenate([arrays[name] for arrays in inputs]) for name in inputs[0]}
        outputs = dict(zip(wanted, self._session.run(wanted, feeds), strict=True))
        if not self._batched:
            return [_response(requests[0], outputs)]
        sizes = [len(next(iter(arrays.values()))) for arrays in inputs]
        _check_batch(outputs, sum(sizes))
        ends = np.cumsum(sizes)
        return [
            _response(request, {name: array[end - size : end] for name, array in outputs.items()})
            for request, size, end in zip(requests, sizes, ends, strict=True)
        ]


def _check_batch(outputs: Arrays, size: int) -> None:
    for name, array in outputs.items():
        if array.shape[:1] != (size,):
            raise ValueError(f"output '{name}' has shape {list(array.shape)}, expected first dimension {size}")


def _response(request: Any, outputs: Arrays) -> Any:
    tensors = [pb.Tensor(name, outputs[name]) for name in request.requested_output_names()]
    return pb.InferenceResponse(output_tensors=tensors)


def _failure(error: Exception) -> Any:
    return pb.InferenceResponse(error=pb.TritonError(str(error)))


def _decoded(array: np.ndarray) -> np.ndarray:
    texts = [value.decode() for value in array.ravel()]
    return np.array(texts, dtype=np.object_).reshape(array.shape)
