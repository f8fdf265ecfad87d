"""The onnxruntime backend, inside a real Triton."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from measure.waiting import wait_until
from tests.deploy.conftest import Triton
from tests.deploy.models import config, double, model, tensor

DEADLINE_S = 30
ROWS = np.arange(10, dtype=np.float32).reshape(5, 2)
ONE_CPU = "instance_group { count: 1 kind: KIND_CPU }"


def infer(client: InferenceServerClient, name: str, arrays: dict[str, np.ndarray], outputs: Sequence[str] = ()) -> Any:
    inputs = [InferInput(key, array.shape, np_to_triton_dtype(array.dtype)) for key, array in arrays.items()]
    for entry, array in zip(inputs, arrays.values(), strict=True):
        entry.set_data_from_numpy(array)
    wanted = [InferRequestedOutput(output) for output in outputs] or None
    return client.infer(name, inputs, outputs=wanted, client_timeout=DEADLINE_S)


def infer_together(client: InferenceServerClient, name: str, key: str, arrays: list[np.ndarray]) -> list[Any]:
    """The answers, or the exceptions in their place, of requests that are sent at the same time."""

    def answer(array: np.ndarray) -> Any:
        try:
            return infer(client, name, {key: array}).as_numpy("Y")
        except InferenceServerException as error:
            return error

    with ThreadPoolExecutor(len(arrays)) as pool:
        return list(pool.map(answer, arrays))


def statistics(client: InferenceServerClient, name: str) -> Any:
    """Those of a model that has answered: Triton counts an execution a moment after its answers."""

    def stats() -> Any:
        return client.get_inference_statistics(name).model_stats[0]

    wait_until(lambda: stats().execution_count > 0, f"a counted execution of {name}")
    return stats()


def gather() -> onnx.ModelProto:
    """Y = ROWS[X]: an index outside of ROWS fails the whole run."""
    return model(
        [helper.make_node("Gather", ["rows", "X"], ["Y"])],
        [tensor("X", ("batch", 1), TensorProto.INT64)],
        [tensor("Y", ("batch", 1, 2))],
        [numpy_helper.from_array(ROWS, "rows")],
    )


def batching(size: int) -> str:
    """Wait for `size` requests, at most ten seconds."""
    return f"dynamic_batching {{ preferred_batch_size: [ {size} ] max_queue_delay_microseconds: 10000000 }}"


def test_a_batch_is_one_run_and_each_request_gets_its_own_rows(strict_triton: Triton) -> None:
    strict_triton.load("batched", double(), config(max_batch_size=8, more=batching(8)))
    arrays = [np.full((1 + i % 2, 3), i, dtype=np.float32) for i in range(5)]
    arrays.append(np.full((1, 3), 5, dtype=np.float32))  # 8 rows in 6 requests
    answers = infer_together(strict_triton.client, "batched", "X", arrays)
    for array, answer in zip(arrays, answers, strict=True):
        np.testing.assert_array_equal(answer, array * 2)
    stats = statistics(strict_triton.client, "batched")
    assert [entry.batch_size for entry in stats.batch_stats] == [8]
    assert stats.execution_count == 1


def test_a_bad_request_in_a_batch_is_the_only_one_to_fail(strict_triton: Triton) -> None:
    text = f"""
        backend: "onnxruntime" max_batch_size: 4 {batching(4)} {ONE_CPU}
        input {{ name: "X" data_type: TYPE_INT64 dims: [ 1 ] }}
        output {{ name: "Y" data_type: TYPE_FP32 dims: [ 1, 2 ] }}
    """
    strict_triton.load("gather", gather(), text)
    indices = [0, 99, 4, 2]
    answers = infer_together(strict_triton.client, "gather", "X", [np.array([[i]]) for i in indices])
    stats = statistics(strict_triton.client, "gather")
    assert [entry.batch_size for entry in stats.batch_stats] == [4]
    assert isinstance(answers[1], InferenceServerException)
    assert "idx=99 must be within the inclusive range [-5,4]" in answers[1].message()
    for i in (0, 2, 3):
        np.testing.assert_array_equal(answers[i], ROWS[[[indices[i]]]])


def test_requests_of_different_shapes_are_answered_together(strict_triton: Triton) -> None:
    text = config(dims="-1", max_batch_size=8, more="dynamic_batching { max_queue_delay_microseconds: 200000 }")
    strict_triton.load("any_width", double(("batch", "width")), text)
    arrays = [np.full((1, 2 + i % 2), i, dtype=np.float32) for i in range(6)]
    answers = infer_together(strict_triton.client, "any_width", "X", arrays)
    for array, answer in zip(arrays, answers, strict=True):
        np.testing.assert_array_equal(answer, array * 2)


def test_only_the_requested_outputs_come_back(strict_triton: Triton) -> None:
    two = model(
        [helper.make_node("Neg", ["X"], ["A"]), helper.make_node("Abs", ["X"], ["B"])],
        [tensor("X", ("batch", 2))],
        [tensor("A", ("batch", 2)), tensor("B", ("batch", 2))],
    )
    outputs = " ".join(f'output {{ name: "{name}" data_type: TYPE_FP32 dims: [ 2 ] }}' for name in "AB")
    text = f'backend: "onnxruntime" max_batch_size: 4 input {{ name: "X" data_type: TYPE_FP32 dims: [ 2 ] }} {outputs}'
    strict_triton.load("two_outputs", two, text)
    x = np.array([[1, -2]], dtype=np.float32)
    answer = infer(strict_triton.client, "two_outputs", {"X": x}, outputs=["B"])
    np.testing.assert_array_equal(answer.as_numpy("B"), np.abs(x))
    assert answer.as_numpy("A") is None


def test_a_model_without_batches(strict_triton: Triton) -> None:
    strict_triton.load("unbatched", double((2, 3)), config(dims="2, 3", max_batch_size=0))
    x = np.ones((2, 3), dtype=np.float32)
    np.testing.assert_array_equal(infer(strict_triton.client, "unbatched", {"X": x}).as_numpy("Y"), x * 2)


def test_reshape(strict_triton: Triton) -> None:
    text = f"""
        backend: "onnxruntime" max_batch_size: 4 {ONE_CPU}
        input {{ name: "X" data_type: TYPE_FP32 dims: [ 1 ] reshape {{ shape: [ ] }} }}
        output {{ name: "Y" data_type: TYPE_FP32 dims: [ 1 ] reshape {{ shape: [ ] }} }}
    """
    strict_triton.load("reshaped", double(("batch",)), text)
    answer = infer(strict_triton.client, "reshaped", {"X": np.array([[1], [2]], dtype=np.float32)})
    np.testing.assert_array_equal(answer.as_numpy("Y"), [[2], [4]])


NUMBERS = {
    "TYPE_BOOL": (TensorProto.BOOL, np.bool_),
    "TYPE_UINT8": (TensorProto.UINT8, np.uint8),
    "TYPE_UINT16": (TensorProto.UINT16, np.uint16),
    "TYPE_UINT32": (TensorProto.UINT32, np.uint32),
    "TYPE_UINT64": (TensorProto.UINT64, np.uint64),
    "TYPE_INT8": (TensorProto.INT8, np.int8),
    "TYPE_INT16": (TensorProto.INT16, np.int16),
    "TYPE_INT32": (TensorProto.INT32, np.int32),
    "TYPE_INT64": (TensorProto.INT64, np.int64),
    "TYPE_FP16": (TensorProto.FLOAT16, np.float16),
    "TYPE_FP32": (TensorProto.FLOAT, np.float32),
    "TYPE_FP64": (TensorProto.DOUBLE, np.float64),
}
IDENTITY = [helper.make_node("Identity", ["X"], ["Y"])]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_each_type_pass_in_a_batch(strict_triton: Triton, name: str) -> None:
    element_type, dtype = NUMBERS[name]
    shape = ("batch", 3)
    same = model(IDENTITY, [tensor("X", shape, element_type)], [tensor("Y", shape, element_type)])
    strict_triton.load(name, same, config(more=batching(3)).replace("TYPE_FP32", name))
    arrays = [np.array([[i, 1, 0]] * rows).astype(dtype) for i, rows in ((0, 1), (100, 2))]
    for array, answer in zip(arrays, infer_together(strict_triton.client, name, "X", arrays), strict=True):
        np.testing.assert_array_equal(answer, array, strict=True)


def test_an_empty_tensor_is_answered_with_an_empty_one(strict_triton: Triton) -> None:
    strict_triton.load("empty", double(("batch", "width")), config(dims="-1"))
    x = np.empty((2, 0), dtype=np.float32)
    np.testing.assert_array_equal(infer(strict_triton.client, "empty", {"X": x}).as_numpy("Y"), x, strict=True)


@pytest.mark.parametrize(
    "more",
    [
        'parameters { key: "intra_op_thread_count" value: { string_value: "1" } }',
        'parameters { key: "inter_op_thread_count" value: { string_value: "0" } }',
        'parameters { key: "execution_mode" value: { string_value: "1" } }',
        "optimization { graph { level: 2 } }",
    ],
)
def test_session_options_are_taken(strict_triton: Triton, request: pytest.FixtureRequest, more: str) -> None:
    name = f"options_{request.node.callspec.indices['more']}"
    strict_triton.load(name, double(), config(more=more))
    x = np.ones((1, 3), dtype=np.float32)
    np.testing.assert_array_equal(infer(strict_triton.client, name, {"X": x}).as_numpy("Y"), x * 2)


def test_default_model_filename(strict_triton: Triton) -> None:
    text = config(more='default_model_filename: "other.onnx"')
    strict_triton.load("filename", double(), text, file="other.onnx")
    assert strict_triton.client.is_model_ready("filename")


def test_a_config_may_narrow_an_input_but_not_an_output(strict_triton: Triton) -> None:
    open_width = double(("batch", "width"))
    strict_triton.load("narrowed", open_width, config(dims="3", output_dims="-1"))
    message = strict_triton.refusal("narrowed_output", open_width, config(dims="3"))
    assert "output 'Y': the ONNX model has shape [-1, -1], the config expects shape [-1, 3]" in message
    assert "input" not in message


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'


REFUSALS = {
    "open_dimension": (
        double(),
        config(dims="-1"),
        "input 'X': the ONNX model has shape [-1, 3], the config expects shape [-1, -1]",
    ),
    "wrong_dimension": (
        double(),
        config(dims="4"),
        "the ONNX model has shape [-1, 3], the config expects shape [-1, 4]",
    ),
    "wrong_rank": (double(), config(dims="3, 1"), "has shape [-1, 3], the config expects shape [-1, 3, 1]"),
    "wrong_output": (
        double(),
        config(output_dims="4"),
        "output 'Y': the ONNX model has shape [-1, 3], the config expects shape [-1, 4]",
    ),
    "wrong_dtype": (
        double(),
        config().replace("TYPE_FP32", "TYPE_INT32"),
        "input 'X': the config says TYPE_INT32, the ONNX model has TYPE_FP32",
    ),
    "wrong_input_name": (
        double(),
        config().replace('"X"', '"x"'),
        "the ONNX model has no input 'x', its inputs are 'X'",
    ),
    "wrong_output_name": (
        double(),
        config().replace('"Y"', '"Z"'),
        "the ONNX model has no output 'Z', its outputs are 'Y'",
    ),
    "too_many_inputs": (
        double(),
        config(more='input { name: "W" data_type: TYPE_FP32 dims: [ 3 ] }'),
        "the config has 2 inputs, the ONNX model has 1 ('X')",
    ),
    "not_batched": (
        double(),
        config(max_batch_size=0),
        "the ONNX model has shape [-1, 3], the config expects shape [3] (max_batch_size is 0)",
    ),
    "fixed_batch": (double((1, 3)), config(), "max_batch_size > 0 needs an ONNX model whose first dimension is open"),
    "text": (
        model(
            IDENTITY, [tensor("X", ("batch", 3), TensorProto.STRING)], [tensor("Y", ("batch", 3), TensorProto.STRING)]
        ),
        config().replace("TYPE_FP32", "TYPE_STRING"),
        "'X' is a tensor(string), which ends Triton's Python stub under numpy 2",
    ),
    "no_file": (None, config(), "there is no ONNX file"),
    "corrupt_file": (b"nothing like ONNX", config(), "Protobuf parsing failed"),
    "thread_count": (
        double(),
        config(more=parameter("intra_op_thread_count", "many")),
        "parameter 'intra_op_thread_count' is 'many', expected a whole number",
    ),
    "execution_mode": (
        double(),
        config(more=parameter("execution_mode", "2")),
        "parameter 'execution_mode' is 2, expected 0 (sequential) or 1 (parallel)",
    ),
    "cpu_accelerator": (
        double(),
        config(more='optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }'),
        "execution accelerator 'openvino' is not available in the local backend on a CPU instance",
    ),
    "gpu_accelerator": (
        double(),
        config(more='optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }'),
        "execution accelerator 'tensorrt' is not available",
    ),
    "ragged": (
        double(),
        config().replace("dims: [ 3 ] }", "dims: [ 3 ] allow_ragged_batch: true }", 1),
        "input 'X': allow_ragged_batch is not supported",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_at_load(strict_triton: Triton, name: str) -> None:
    onnx_model, text, reason = REFUSALS[name]
    assert reason in strict_triton.refusal(name, onnx_model, text)


def test_refused_as_well_where_configs_are_completed(triton: Triton) -> None:
    message = triton.refusal("wrong_dimension", double(), config(dims="4"))
    assert "input 'X': the ONNX model has shape [-1, 3], the config expects shape [-1, 4]" in message


@pytest.mark.parametrize(("max_batch_size", "expected"), [("", 4), ("max_batch_size: 16", 16)])
def test_a_config_is_completed(triton: Triton, max_batch_size: str, expected: int) -> None:
    name = f"completed_{expected}"
    triton.load(name, double(), f'backend: "onnxruntime" {max_batch_size}')
    found = triton.client.get_model_config(name).config
    assert found.max_batch_size == expected
    assert found.HasField("dynamic_batching")
    assert [(io.name, list(io.dims)) for io in (*found.input, *found.output)] == [("X", [3]), ("Y", [3])]
    x = np.ones((2, 3), dtype=np.float32)
    np.testing.assert_array_equal(infer(triton.client, name, {"X": x}).as_numpy("Y"), x * 2)


def test_a_config_of_a_model_without_batches_is_completed(triton: Triton) -> None:
    triton.load("completed_unbatched", double((2, 3)), 'backend: "onnxruntime"')
    found = triton.client.get_model_config("completed_unbatched").config
    assert (found.max_batch_size, list(found.input[0].dims)) == (0, [2, 3])
    message = triton.refusal("completed_fixed", double((2, 3)), 'backend: "onnxruntime" max_batch_size: 2')
    assert "max_batch_size > 0 needs an ONNX model whose first dimension is open (-1), it has shape [2, 3]" in message


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((1, 4), np.float32), "Expected [-1,3], got [1,4]"),
        (np.ones((1, 3), np.int32), "data-type is 'INT32', but model 'fed_wrongly_dtype' expects 'FP32'"),
        (np.ones((9, 3), np.float32), "batch-size must be <= 8"),
    ],
    ids=["shape", "dtype", "batch_size"],
)
def test_a_wrong_tensor_is_an_error_and_the_server_goes_on(
    strict_triton: Triton, request: pytest.FixtureRequest, array: np.ndarray, message: str
) -> None:
    name = f"fed_wrongly_{request.node.callspec.id}"
    strict_triton.load(name, double(), config())
    with pytest.raises(InferenceServerException) as caught:
        infer(strict_triton.client, name, {"X": array})
    assert message in caught.value.message()
    x = np.ones((1, 3), dtype=np.float32)
    np.testing.assert_array_equal(infer(strict_triton.client, name, {"X": x}).as_numpy("Y"), x * 2)
