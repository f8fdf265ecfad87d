"""Triton's `onnxruntime` backend in Python, for servers that have no native one: runs ONNX files on ONNX Runtime.

Triton imports this file in a separate process for each instance of a model with backend "onnxruntime".
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb
from onnx_session import HONOURED_PARAMETERS, model_path, open_for_reading, open_session
from onnx_signature import check_config, complete_config, read_signature
from triton_tensors import from_triton, to_triton

Arrays = dict[str, np.ndarray]


class TritonPythonModel:
    """One instance of a model; Triton prescribes the name and the methods."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what config.pbtxt leaves out, from the ONNX file."""
        given = config.as_dict()
        if not (given.get("input") and given.get("output")):
            complete_config(config, read_signature(open_for_reading(model_path(given, Path(pb.get_model_dir())))))
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; raises InvalidModel if it does not match its config."""
        config = json.loads(args["model_config"])
        self._session = open_session(
            config,
            Path(pb.get_model_dir()),
            kind=args["model_instance_kind"],
            device_id=int(args["model_instance_device_id"]),
        )
        check_config(config, read_signature(self._session))
        self._batched = int(config["max_batch_size"]) > 0
        for name in sorted(config.get("parameters", {}).keys() - HONOURED_PARAMETERS):
            pb.Logger.log_warn(f"model '{args['model_name']}': parameter '{name}' has no effect in the local backend")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests, with one run for all that the dynamic batcher put together."""
        if self._batched:
            return self._answer(requests)
        return [self._answer([request])[0] for request in requests]

    def _answer(self, requests: Sequence[Any]) -> list[Any]:
        try:
            return self._run(requests)
        except Exception as error:  # any error is the answer to its request
            if len(requests) == 1:
                return [pb.InferenceResponse(error=pb.TritonError(str(error)))]
        # At least one request is bad: run alone, each gets its own answer.
        return [self._answer([request])[0] for request in requests]

    def _run(self, requests: Sequence[Any]) -> list[Any]:
        wanted = sorted({name for request in requests for name in request.requested_output_names()})
        inputs = [_arrays(request) for request in requests]
        # Triton's batcher joins only requests whose shapes are equal but for the batch dimension.
        feeds = {name: _joined([arrays[name] for arrays in inputs]) for name in inputs[0]}
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


def _arrays(request: Any) -> Arrays:
    return {tensor.name(): from_triton(tensor) for tensor in request.inputs()}


def _check_batch(outputs: Arrays, size: int) -> None:
    for name, array in outputs.items():
        if array.shape[:1] != (size,):
            raise ValueError(f"output '{name}' has shape {list(array.shape)}, expected first dimension {size}")


def _response(request: Any, outputs: Arrays) -> Any:
    tensors = [to_triton(name, outputs[name]) for name in request.requested_output_names()]
    return pb.InferenceResponse(output_tensors=tensors)


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
