"""Kinds of malformed inference requests: what each changes in a valid request, and which results are acceptable."""

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
"""Results that are not a gRPC status: the valid request's answer, another one, one with NaN or infinity, labels."""
INVALID, NOT_FOUND, INTERNAL = "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"
ANY = frozenset({RIGHT, FINITE, NOT_FINITE, CLASSES, INVALID, NOT_FOUND, INTERNAL, "UNIMPLEMENTED"})
"""For random changes: any result that shows no sign of a broken server."""
IMAGE, HISTORY = 0, 1
"""Positions of the inputs in the request."""
PIXELS = int(np.prod(contract.IMAGE.dims))
LARGEST = 2**63 - 1


def pick(rng: Random, *options: T) -> T:
    """Draw one of the options."""
    return options[rng.integers(len(options))]


def _image(request: pb.ModelInferRequest, *shape: int, values: int | None = None) -> None:
    request.inputs[IMAGE].shape[:] = shape
    request.raw_input_contents[IMAGE] = bytes(int(np.prod(shape)) if values is None else values)


def _history(request: pb.ModelInferRequest, values: np.ndarray) -> None:
    request.raw_input_contents[HISTORY] = np.asarray(values, np.float32).tobytes()


def _tags(request: pb.ModelInferRequest) -> int:
    return request.inputs[HISTORY].shape[-1]


def _wrong_shape(request: pb.ModelInferRequest, rng: Random) -> None:
    size = int(rng.integers(1, 224))
    sides = pick(rng, (1, size, 224, 3), (1, 224, size, 3), (1, 3, 224, 224), (1, 224, 224, 4))
    ranks = pick(rng, (224, 224, 3), (PIXELS,), (1, 1, 224, 224, 3), (1,) * 60 + (224, 224, 3), ())
    _image(request, *pick(rng, sides, ranks))


def _wrong_history_length(request: pb.ModelInferRequest, rng: Random) -> None:
    length = pick(rng, 0, 1, _tags(request) - 1, _tags(request) + 1, int(rng.integers(2, 1000)), 100_000)
    request.inputs[HISTORY].shape[:] = (1, length)
    _history(request, np.zeros(length))


def _wrong_dtype(request: pb.ModelInferRequest, rng: Random) -> None:
    """Set another known type with the right number of bytes, or an unknown type."""
    if rng.random() < 0.5:
        dtype, size = pick(rng, ("FP32", 4), ("INT8", 1), ("BOOL", 1), ("FP64", 8), ("BF16", 2))
        request.raw_input_contents[IMAGE] = bytes(PIXELS * size)
    else:
        dtype = pick(rng, "", "FLOAT", "uint8", "UINT9", "X" * 10_000, "\0")
    request.inputs[IMAGE].datatype = dtype


def _wrong_name(request: pb.ModelInferRequest, rng: Random) -> None:
    name = pick(rng, "", "image", "IMAGE ", "TAGS", "VISUAL_ENCODING", "N" * 100_000, "\0IMAGE", "\N{SNOWMAN}", "%s%n")
    request.inputs[pick(rng, IMAGE, HISTORY)].name = name


def _missing_input(request: pb.ModelInferRequest, rng: Random) -> None:
    for index in pick(rng, [IMAGE], [HISTORY], [HISTORY, IMAGE]):
        del request.inputs[index], request.raw_input_contents[index]


def _duplicate_input(request: pb.ModelInferRequest, rng: Random) -> None:
    index = pick(rng, IMAGE, HISTORY)
    request.inputs.append(request.inputs[index])
    request.raw_input_contents.append(request.raw_input_contents[index])


def _wrong_size(request: pb.ModelInferRequest, rng: Random) -> None:
    index = pick(rng, IMAGE, HISTORY)
    size = len(request.raw_input_contents[index])
    request.raw_input_contents[index] = bytes(pick(rng, 0, 1, size - 1, size + 1, 2 * size, int(rng.integers(size))))


def _negative_dims(request: pb.ModelInferRequest, rng: Random) -> None:
    request.inputs[IMAGE].shape[:] = pick(
        rng, (1, -1, 224, 3), (-1, 224, 224, 3), (1, -224, -224, 3), (-(2**63), 224, 224, 3), (1, 224, 224, -3)
    )


def _huge_dims(request: pb.ModelInferRequest, rng: Random) -> None:
    """Set dims whose product may overflow 64 bits, in some cases to the true size."""
    which, shape = pick(
        rng,
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


def _unknown_model(request: pb.ModelInferRequest, rng: Random) -> None:
    request.model_name = pick(rng, "", "nothing", "../../../etc/passwd", "tag_recommender/1", "m" * 100_000, "\0", "%n")


def _unknown_version(request: pb.ModelInferRequest, rng: Random) -> None:
    request.model_version = pick(rng, "0", "-1", "999", "latest", str(2**64), "9" * 10_000, "1e0", " ", "\N{SNOWMAN}")


def _not_finite_history(request: pb.ModelInferRequest, rng: Random) -> None:
    values = np.zeros(_tags(request))
    values[rng.integers(len(values), size=pick(rng, 1, 5, 2000))] = pick(rng, np.nan, np.inf, -np.inf)
    _history(request, values)


def _wild_history(request: pb.ModelInferRequest, rng: Random) -> None:
    """Send finite counts that the client would refuse."""
    values = np.zeros(_tags(request))
    values[rng.integers(len(values), size=pick(rng, 1, 5, 2000))] = pick(rng, -1.0, -1e6, 1e6, 3e38, -3e38, 1e-45)
    _history(request, values)


def _random_history(request: pb.ModelInferRequest, rng: Random) -> None:
    """Random bits, signalling NaNs and subnormal numbers included."""
    request.raw_input_contents[HISTORY] = rng.bytes(4 * _tags(request))


def _not_finite_classes(request: pb.ModelInferRequest, rng: Random) -> None:
    """Ask for classes of what has no right answer."""
    pick(rng, _not_finite_history, _random_history)(request, rng)
    request.outputs.add(name="TAGS").parameters["classification"].int64_param = pick(rng, 1, 5, _tags(request))


def _class_count(request: pb.ModelInferRequest, rng: Random) -> None:
    parameter = request.outputs.add(name="TAGS").parameters["classification"]
    parameter.int64_param = pick(rng, 0, -1, -(2**63), _tags(request) + 1, 2**31, 2**32, LARGEST)


def _unknown_output(request: pb.ModelInferRequest, rng: Random) -> None:
    for name in pick(rng, [""], ["tags"], ["TAGS", "NOTHING"], ["IMAGE"], ["VISUAL_ENCODING"], ["T" * 100_000]):
        request.outputs.add(name=name)


def _shared_memory(request: pb.ModelInferRequest, rng: Random) -> None:
    """Name a region that nobody registered, for an input or for the output."""
    holder = request.inputs[IMAGE] if rng.random() < 0.5 else request.outputs.add(name="TAGS")
    holder.parameters["shared_memory_region"].string_param = pick(rng, "", "nothing", "../etc", "r" * 10_000)
    holder.parameters["shared_memory_byte_size"].int64_param = pick(rng, 0, PIXELS, -1, LARGEST)
    holder.parameters["shared_memory_offset"].int64_param = pick(rng, 0, -1, LARGEST)


def _garbage(request: pb.ModelInferRequest, rng: Random) -> bytes:
    """Return bytes that are not a protobuf message."""
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
    """Flip bits in names, shapes and lengths, which come before the tensors' bytes."""
    body = bytearray(request.SerializeToString())
    for at in rng.integers(0, len(body) - sum(map(len, request.raw_input_contents)), size=pick(rng, 1, 2, 5)):
        body[at] ^= 1 << int(rng.integers(8))
    return bytes(body)


def _long_length(request: pb.ModelInferRequest, rng: Random) -> bytes:
    """Return a field that claims to be 2 GiB long, or longer than any field can be."""
    lengths = pick(rng, b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01", b"\xff" * 20)
    return pick(rng, b"\x0a", b"\x2a", b"\x3a") + lengths


CHANGES: Mapping[Change, frozenset[str]] = {
    _wrong_shape: frozenset({INVALID}),
    _wrong_history_length: frozenset({INVALID}),
    _wrong_dtype: frozenset({INVALID}),
    _wrong_name: frozenset({INVALID}),
    _missing_input: frozenset({INVALID}),
    _duplicate_input: frozenset({INVALID}),
    _wrong_size: frozenset({INVALID}),
    _negative_dims: frozenset({INVALID}),
    _huge_dims: frozenset({INVALID, RIGHT}),  # only 32 bits of the batch size are read: 2**62 + 1 rows are one row
    _zero_batch: frozenset({INVALID, FINITE}),  # with the bytes of one row, it passes for one
    _large_batch: frozenset({INVALID}),
    _unknown_model: frozenset({NOT_FOUND}),
    _unknown_version: frozenset({INVALID, NOT_FOUND, RIGHT}),  # "1e0" is read as 1
    _not_finite_history: frozenset({FINITE}),
    _wild_history: frozenset({FINITE}),
    _random_history: frozenset({FINITE}),
    _not_finite_classes: frozenset({CLASSES}),
    _class_count: frozenset({INVALID, CLASSES, RIGHT}),  # too many: all of them; 0: the tensor
    _unknown_output: frozenset({INVALID}),
    _shared_memory: frozenset({NOT_FOUND}),
    _garbage: frozenset({INTERNAL}),
    _truncated: frozenset({INTERNAL}),
    _flipped_bits: ANY,
    _long_length: frozenset({INTERNAL}),
}
"""The acceptable results of each kind: what tritonserver 2.51 answers, all of it harmless."""
