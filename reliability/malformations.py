"""Kinds of wrong inference requests: what each changes in a right one, and the statuses that may answer it."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from altreco_client import contract
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

T = TypeVar("T")
Random = np.random.Generator
Change = Callable[[pb.ModelInferRequest, Random], bytes | None]
"""Changes the request in place, or returns the bytes to send instead."""

RIGHT, FINITE, NOT_FINITE, CLASSES = "right answer", "finite answer", "answer not finite", "classes"
"""In place of a status: the answer of the unchanged request, another, one with NaN or infinity, classes."""
INVALID, NOT_FOUND, INTERNAL = "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"
UNIMPLEMENTED = "UNIMPLEMENTED"
ANY = frozenset({RIGHT, FINITE, NOT_FINITE, CLASSES, INVALID, NOT_FOUND, INTERNAL, UNIMPLEMENTED})
"""Of what is random: whatever is defined, and no sign of a server that broke."""
IMAGE, HISTORY = 0, 1
"""Where they are among the inputs."""
PIXELS = int(np.prod(contract.IMAGE.dims))
LARGEST = 2**63 - 1


def pick(rng: Random, *options: T) -> T:
    """One of them."""
    return options[rng.integers(len(options))]


def _image(request: pb.ModelInferRequest, *shape: int, values: int | None = None) -> None:
    request.inputs[IMAGE].shape[:] = shape
    request.raw_input_contents[IMAGE] = bytes(int(np.prod(shape)) if values is None else values)


def _history(request: pb.ModelInferRequest, values: np.ndarray) -> None:
    request.raw_input_contents[HISTORY] = np.asarray(values, np.float32).tobytes()


def _tags(request: pb.ModelInferRequest) -> int:
    return request.inputs[HISTORY].shape[-1]


def _wrong_shape(request: pb.ModelInferRequest, rng: Random) -> None:
    size = int(rng.integers(1, 300))
    _image(request, *pick(rng, (1, size, 225, 3), (1, 225, size, 3), (1, 3, 224, 224), (1, 224, 224, 4), (1, size)))


def _wrong_rank(request: pb.ModelInferRequest, rng: Random) -> None:
    _image(request, *pick(rng, (224, 224, 3), (PIXELS,), (1, 1, 224, 224, 3), (1,) * 60 + (224, 224, 3), ()))


def _wrong_history_length(request: pb.ModelInferRequest, rng: Random) -> None:
    length = pick(rng, 0, 1, _tags(request) - 1, _tags(request) + 1, int(rng.integers(2, 1000)), 100_000)
    request.inputs[HISTORY].shape[:] = (1, length)
    _history(request, np.zeros(length))


def _wrong_dtype(request: pb.ModelInferRequest, rng: Random) -> None:
    if rng.random() < 0.5:
        dtype, size = pick(rng, ("FP32", 4), ("INT8", 1), ("BOOL", 1), ("FP64", 8), ("BF16", 2))
        request.inputs[IMAGE].datatype = dtype
        request.raw_input_contents[IMAGE] = bytes(PIXELS * size)
    else:
        dtype, size = pick(rng, ("FP64", 8), ("INT32", 4), ("UINT8", 1), ("FP16", 2))
        request.inputs[HISTORY].datatype = dtype
        request.raw_input_contents[HISTORY] = bytes(_tags(request) * size)


def _unknown_dtype(request: pb.ModelInferRequest, rng: Random) -> None:
    request.inputs[pick(rng, IMAGE, HISTORY)].datatype = pick(rng, "", "FLOAT", "uint8", "UINT9", "X" * 10_000, "\0")


def _bytes_dtype(request: pb.ModelInferRequest, rng: Random) -> None:
    request.inputs[HISTORY].datatype = "BYTES"
    length = pick(rng, 0, 1, 2**31 - 1, 2**32 - 1)
    request.raw_input_contents[HISTORY] = length.to_bytes(4, "little") * int(rng.integers(0, 2000))


def _wrong_name(request: pb.ModelInferRequest, rng: Random) -> None:
    name = pick(rng, "", "image", "IMAGE ", "TAGS", "VISUAL_ENCODING", "N" * 100_000, "\0IMAGE", "\N{SNOWMAN}", "%s%n")
    request.inputs[pick(rng, IMAGE, HISTORY)].name = name


def _missing_input(request: pb.ModelInferRequest, rng: Random) -> None:
    which = pick(rng, [IMAGE], [HISTORY], [HISTORY, IMAGE])
    for index in which:
        del request.inputs[index], request.raw_input_contents[index]


def _extra_inputs(request: pb.ModelInferRequest, rng: Random) -> None:
    for number in range(pick(rng, 1, 2, 1000)):
        request.inputs.add(name=f"EXTRA_{number}", datatype="FP32", shape=[1, 1])
        request.raw_input_contents.append(bytes(4))


def _duplicate_input(request: pb.ModelInferRequest, rng: Random) -> None:
    index = pick(rng, IMAGE, HISTORY)
    request.inputs.append(request.inputs[index])
    request.raw_input_contents.append(request.raw_input_contents[index])


def _wrong_size(request: pb.ModelInferRequest, rng: Random) -> None:
    index = pick(rng, IMAGE, HISTORY)
    size = len(request.raw_input_contents[index])
    request.raw_input_contents[index] = bytes(pick(rng, 0, 1, size - 1, size + 1, 2 * size, int(rng.integers(size))))


def _wrong_raw_count(request: pb.ModelInferRequest, rng: Random) -> None:
    if rng.random() < 0.5:
        del request.raw_input_contents[pick(rng, IMAGE, HISTORY) :]
    else:
        request.raw_input_contents.extend([b"more"] * pick(rng, 1, 1000))


def _typed_contents(request: pb.ModelInferRequest, rng: Random) -> None:
    """Beside the raw ones, or in place of them with another type or count."""
    contents = request.inputs[HISTORY].contents
    values = [1] * pick(rng, 1, _tags(request) - 1, _tags(request) + 1)
    pick(rng, contents.int_contents, contents.fp64_contents, contents.fp32_contents).extend(values)
    if rng.random() < 0.5:
        del request.raw_input_contents[:]


def _negative_dims(request: pb.ModelInferRequest, rng: Random) -> None:
    request.inputs[IMAGE].shape[:] = pick(
        rng, (1, -1, 224, 3), (-1, 224, 224, 3), (1, -224, -224, 3), (-(2**63), 224, 224, 3), (1, 224, 224, -3)
    )


def _huge_dims(request: pb.ModelInferRequest, rng: Random) -> None:
    """Some of them multiply to what 64 bits cannot hold, or to the true size after the overflow."""
    which, shape = pick(
        rng,
        (IMAGE, (1, 2**31, 2**31, 3)),
        (IMAGE, (1, 2**32, 2**32, 1)),
        (IMAGE, (LARGEST, LARGEST, LARGEST, LARGEST)),
        (IMAGE, (2**61 + 1, 224, 224, 3)),
        (HISTORY, (1, LARGEST)),
        (HISTORY, (2**62 + 1, _tags(request))),
    )
    request.inputs[which].shape[:] = shape


def _zero_batch(request: pb.ModelInferRequest, rng: Random) -> None:
    size = pick(rng, 0, PIXELS)
    _image(request, 0, *contract.IMAGE.dims, values=size)
    request.inputs[HISTORY].shape[:] = (0, _tags(request))
    if size == 0:
        request.raw_input_contents[HISTORY] = b""


def _large_batch(request: pb.ModelInferRequest, rng: Random) -> None:
    rows = pick(rng, contract.MAX_BATCH_SIZE + 1, 2 * contract.MAX_BATCH_SIZE)
    tags = _tags(request)
    _image(request, rows, *contract.IMAGE.dims)
    request.inputs[HISTORY].shape[:] = (rows, tags)
    _history(request, np.zeros(rows * tags))


def _two_batches(request: pb.ModelInferRequest, rng: Random) -> None:
    _image(request, int(rng.integers(2, 5)), *contract.IMAGE.dims)


def _unknown_model(request: pb.ModelInferRequest, rng: Random) -> None:
    request.model_name = pick(rng, "", "nothing", "../../../etc/passwd", "tag_recommender/1", "m" * 100_000, "\0", "%n")


def _unknown_version(request: pb.ModelInferRequest, rng: Random) -> None:
    request.model_version = pick(rng, "0", "-1", "999", "latest", str(2**64), "9" * 10_000, "1e0", " ", "\N{SNOWMAN}")


def _not_finite_history(request: pb.ModelInferRequest, rng: Random) -> None:
    values = np.zeros(_tags(request))
    values[rng.integers(len(values), size=pick(rng, 1, 5, 2000))] = pick(rng, np.nan, np.inf, -np.inf)
    _history(request, values)


def _wild_history(request: pb.ModelInferRequest, rng: Random) -> None:
    """Finite, and nothing that the client would send."""
    values = np.zeros(_tags(request))
    values[rng.integers(len(values), size=pick(rng, 1, 5, 2000))] = pick(rng, -1.0, -1e6, 1e6, 3e38, -3e38, 1e-45)
    _history(request, values)


def _random_history(request: pb.ModelInferRequest, rng: Random) -> None:
    """Any bits: signalling NaNs and subnormal numbers as well."""
    request.raw_input_contents[HISTORY] = rng.bytes(4 * _tags(request))


def _not_finite_classes(request: pb.ModelInferRequest, rng: Random) -> None:
    """As above, with classes for an answer."""
    pick(rng, _not_finite_history, _random_history)(request, rng)
    request.outputs.add(name="TAGS").parameters["classification"].int64_param = pick(rng, 1, 5, _tags(request))


def _unknown_output(request: pb.ModelInferRequest, rng: Random) -> None:
    names = pick(rng, [""], ["tags"], ["TAGS", "NOTHING"], ["IMAGE"], ["VISUAL_ENCODING"], ["T" * 100_000])
    for name in names:
        request.outputs.add(name=name)


def _duplicate_output(request: pb.ModelInferRequest, rng: Random) -> None:
    for _ in range(pick(rng, 2, 1000)):
        request.outputs.add(name="TAGS")


def _class_count(request: pb.ModelInferRequest, rng: Random) -> None:
    parameter = request.outputs.add(name="TAGS").parameters["classification"]
    parameter.int64_param = pick(rng, 0, -1, -(2**63), _tags(request) + 1, 2**31, 2**32, LARGEST)


def _class_type(request: pb.ModelInferRequest, rng: Random) -> None:
    parameter = request.outputs.add(name="TAGS").parameters["classification"]
    name, value = pick(rng, ("string_param", "5"), ("bool_param", True), ("double_param", 5.0), ("uint64_param", 5))
    setattr(parameter, name, value)


def _shared_memory(request: pb.ModelInferRequest, rng: Random) -> None:
    """Of regions that nobody registered, in place of an input's bytes or for the output."""
    if rng.random() < 0.5:
        holder = request.inputs[IMAGE]
        if rng.random() < 0.5:
            del request.raw_input_contents[IMAGE]
    else:
        holder = request.outputs.add(name="TAGS")
    holder.parameters["shared_memory_region"].string_param = pick(rng, "", "nothing", "../etc", "r" * 10_000)
    holder.parameters["shared_memory_byte_size"].int64_param = pick(rng, 0, PIXELS, -1, LARGEST)
    holder.parameters["shared_memory_offset"].int64_param = pick(rng, 0, -1, LARGEST)


def _unknown_parameter(request: pb.ModelInferRequest, rng: Random) -> None:
    for number in range(pick(rng, 1, 1000)):
        name = pick(rng, "", f"unknown-{number}", "p" * 1000, "\N{SNOWMAN}", "k")
        setattr(request.parameters[name], *pick(rng, ("string_param", "x" * 100), ("int64_param", -1)))


def _reserved_parameter(request: pb.ModelInferRequest, rng: Random) -> None:
    name = pick(rng, "triton_", "triton_enable_empty_final_response", "binary_data_output", "headers")
    setattr(request.parameters[name], *pick(rng, ("string_param", "x"), ("int64_param", 1), ("double_param", 0.5)))


def _absurd_parameter(request: pb.ModelInferRequest, rng: Random) -> None:
    """Of those that Triton knows: out of range, or of another type."""
    name = pick(rng, "timeout", "priority", "sequence_id", "sequence_start", "sequence_end")
    value = pick(
        rng,
        ("int64_param", -1),
        ("int64_param", -(2**63)),
        ("int64_param", LARGEST),
        ("uint64_param", 2**64 - 1),
        ("string_param", "x" * pick(rng, 1, 200, 10_000)),
        ("bool_param", True),
        ("double_param", float("nan")),
    )
    setattr(request.parameters[name], *value)


def _empty_parameter(request: pb.ModelInferRequest, rng: Random) -> None:
    """Named, and without a value."""
    holder = pick(rng, request, request.inputs[IMAGE], request.outputs.add(name="TAGS"))
    holder.parameters[pick(rng, "timeout", "classification", "shared_memory_region", "x")].SetInParent()


def _odd_id(request: pb.ModelInferRequest, rng: Random) -> None:
    request.id = pick(rng, "\0", "\n\r\n", "%s%n%x", "i" * 1_000_000, "\N{SNOWMAN}" * 1000, "<script>")


def _empty_request(request: pb.ModelInferRequest, rng: Random) -> bytes:
    return pb.ModelInferRequest(model_name=pick(rng, "", request.model_name)).SerializeToString()


def _garbage(request: pb.ModelInferRequest, rng: Random) -> bytes:
    """Bytes that are no protobuf message."""
    while True:
        body = rng.bytes(int(rng.integers(1, 5000)))
        try:
            request.ParseFromString(body)
        except DecodeError:
            return body


def _truncated(request: pb.ModelInferRequest, rng: Random) -> bytes:
    body = request.SerializeToString()
    return body[: int(rng.integers(1, len(body)))]


def _flipped_bits(request: pb.ModelInferRequest, rng: Random) -> bytes:
    """In names, shapes and lengths, which come before the raw bytes."""
    body = bytearray(request.SerializeToString())
    for at in rng.integers(0, len(body) - sum(map(len, request.raw_input_contents)), size=pick(rng, 1, 2, 5)):
        body[at] ^= 1 << int(rng.integers(8))
    return bytes(body)


def _long_length(request: pb.ModelInferRequest, rng: Random) -> bytes:
    """A field that claims up to 2 GiB, or more than a length can be."""
    return pick(rng, b"\x0a", b"\x2a", b"\x3a") + pick(
        rng, b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01", b"\xff" * 20
    )


CHANGES: Mapping[Change, frozenset[str]] = {
    _wrong_shape: frozenset({INVALID}),
    _wrong_rank: frozenset({INVALID}),
    _wrong_history_length: frozenset({INVALID}),
    _wrong_dtype: frozenset({INVALID}),
    _unknown_dtype: frozenset({INVALID}),
    _bytes_dtype: frozenset({INVALID}),
    _wrong_name: frozenset({INVALID}),
    _missing_input: frozenset({INVALID}),
    _extra_inputs: frozenset({INVALID}),
    _duplicate_input: frozenset({INVALID}),
    _wrong_size: frozenset({INVALID}),
    _wrong_raw_count: frozenset({INVALID, RIGHT}),  # more than inputs are ignored
    _typed_contents: frozenset({INVALID}),
    _negative_dims: frozenset({INVALID}),
    _huge_dims: frozenset({INVALID, RIGHT}),  # of a batch, 32 bits count: 2**62 + 1 rows are one
    _zero_batch: frozenset({INVALID, FINITE}),  # with the bytes of a row, it is taken for one
    _large_batch: frozenset({INVALID}),
    _two_batches: frozenset({INVALID}),
    _unknown_model: frozenset({NOT_FOUND}),
    _unknown_version: frozenset({INVALID, NOT_FOUND, RIGHT}),  # "1e0" is read as 1
    _not_finite_history: frozenset({FINITE}),
    _wild_history: frozenset({FINITE}),
    _random_history: frozenset({FINITE}),
    _not_finite_classes: frozenset({CLASSES}),
    _unknown_output: frozenset({INVALID}),
    _duplicate_output: frozenset({RIGHT}),
    _class_count: frozenset({INVALID, CLASSES, RIGHT}),  # more than there are: all; 0: the tensor
    _class_type: frozenset({INVALID}),
    _shared_memory: frozenset({NOT_FOUND}),
    _unknown_parameter: frozenset({RIGHT}),
    _reserved_parameter: frozenset({INVALID, RIGHT}),
    _absurd_parameter: frozenset({INVALID, UNIMPLEMENTED, RIGHT}),
    _empty_parameter: frozenset({INVALID, RIGHT}),
    _odd_id: frozenset({RIGHT}),
    _empty_request: frozenset({INVALID, NOT_FOUND}),
    _garbage: frozenset({INTERNAL}),
    _truncated: frozenset({INTERNAL}),
    _flipped_bits: ANY,
    _long_length: frozenset({INTERNAL}),
}
"""Each with the statuses that are an answer to it: tritonserver 2.51's, and all of them harmless."""
