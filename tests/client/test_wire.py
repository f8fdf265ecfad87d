"""What is read from a server's answer, of which nothing is believed."""

import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import tritonclient.grpc as triton
from altreco_client import ContractMismatch, ServerFailed, contract
from altreco_client.call.wire import RankedClass, read_answer, read_tensor, served_release, vocabulary_size
from tritonclient.grpc import service_pb2 as pb

from tests.client.odd_server import metadata, ranking, strings

N = 5
ROWS = [[b"0.900000:3:dog", b"0.500000:0:sea"], [b"0.500000:1:a:b", b"0.500000:4:"]]
LIMIT = 64 * 1024**2


def read(answer: pb.ModelInferResponse, rows: int = 2, k: int = 2) -> list[list[tuple[int, float, str]]]:
    read = read_answer(triton.InferResult(answer), rows, k, N)
    assert read.version == answer.model_version
    return [list(map(tuple, row)) for row in read.rows]


def test_entries_are_read_row_by_row() -> None:
    read = read_answer(triton.InferResult(ranking(ROWS, release="17")), 2, 2, N)
    assert read.rows[0] == (RankedClass(3, 0.9, "dog"), RankedClass(0, 0.5, "sea"))
    assert read.rows[1] == (RankedClass(1, 0.5, "a:b"), RankedClass(4, 0.5, ""))
    assert read.version == "17"


def test_the_output_is_found_by_its_name() -> None:
    answer = ranking(ROWS)
    first = pb.ModelInferResponse(model_version="1")
    first.outputs.add(name="OTHER", datatype="FP32", shape=[1])
    first.raw_output_contents.append(bytes(4))
    first.MergeFrom(answer)
    assert read(first) == read(answer)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (b"nonsense", "expected score:index:label"),
        (b"", "expected score:index:label"),
        (b"high:0:sea", "expected score:index:label"),
        (b"0.9:zero:sea", "expected score:index:label"),
        (b"0.9:0:\xff\xfe", "expected score:index:label"),
        (b"nan:0:sea", "expected probabilities"),
        (b"inf:0:sea", "expected probabilities"),
        (b"-0.1:0:sea", "expected probabilities"),
        (b"1.000001:0:sea", "expected probabilities"),
        (b"0.4:5:sea", "expected probabilities, best first, of classes 0 to 4"),
        (b"0.4:-1:sea", "expected probabilities, best first, of classes 0 to 4"),
        (b"0.4:1:sea", "expected each class once"),
    ],
)
def test_impossible_entries_are_refused(entry: bytes, words: str) -> None:
    with pytest.raises(ServerFailed, match=f"answer is malformed: {words}"):
        read(ranking([[entry, b"0.2:1:sky"]]), 1)


def test_the_limits_themselves_are_taken() -> None:
    assert read(ranking([[b"1.000000:4:last", b"0.000000:0:first"]]), 1) == [[(4, 1.0, "last"), (0, 0.0, "first")]]


def test_the_best_is_first() -> None:
    with pytest.raises(ServerFailed, match="best first"):
        read(ranking([[b"0.2:1:sky", b"0.3:2:sea"]]), 1)


def test_a_class_may_be_in_several_rows() -> None:
    assert len(read(ranking([ROWS[0], ROWS[0]]))) == 2


def test_a_missing_label_is_the_repositorys_fault() -> None:
    with pytest.raises(ContractMismatch, match=r"no label for class 3: its model repository lacks tags\.txt"):
        read(ranking([[b"0.9:3", b"0.5:1:sky"]]), 1)


def without_contents(answer: pb.ModelInferResponse) -> None:
    del answer.raw_output_contents[:]


def of_numbers(answer: pb.ModelInferResponse) -> None:
    answer.outputs[0].datatype = "FP32"


def of_another_shape(answer: pb.ModelInferResponse) -> None:
    answer.outputs[0].shape[:] = [2, 3]


def without_shape(answer: pb.ModelInferResponse) -> None:
    del answer.outputs[0].shape[:]


def of_another_name(answer: pb.ModelInferResponse) -> None:
    answer.outputs[0].name = "LABELS"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_contents, r"TAGS BYTES \[2, 2\], found it without contents"),
        (of_numbers, r"TAGS BYTES \[2, 2\], found FP32 \[2, 2\]"),
        (of_another_shape, r"TAGS BYTES \[2, 2\], found BYTES \[2, 3\]"),
        (without_shape, r"TAGS BYTES \[2, 2\], found BYTES \[\]"),
        (of_another_name, r"TAGS BYTES \[2, 2\], found the outputs \['LABELS'\]"),
    ],
)
def test_another_output_is_refused(spoil: Callable[[pb.ModelInferResponse], None], words: str) -> None:
    answer = ranking(ROWS)
    spoil(answer)
    with pytest.raises(ServerFailed, match=words):
        read(answer)


def test_rows_and_classes_are_those_that_were_asked_for() -> None:
    for rows, k in ((1, 2), (2, 1), (3, 2), (2, 3), (1, 4)):
        with pytest.raises(ServerFailed, match="malformed"):
            read(ranking(ROWS), rows, k)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        strings([b"0.9:0:sea"]),  # too few
        strings([b"0.9:0:sea", b"0.5:1:sky", b"0.4:2:dog"]),  # too many
        strings([b"0.9:0:sea", b"0.5:1:sky"]) + b"\0",
        strings([b"0.9:0:sea", b"0.5:1:sky"])[:-1],
        strings([b"0.9:0:sea"]) + b"\5\0",  # cut in a length
        b"\xff\xff\xff\xffab",
    ],
)
def test_contents_that_do_not_fit_are_refused(contents: bytes) -> None:
    answer = ranking([[b"0.9:0:sea", b"0.5:1:sky"]])
    answer.raw_output_contents[0] = contents
    with pytest.raises(ServerFailed, match="expected 2 strings in TAGS, found other contents"):
        read(answer, 1)


@pytest.mark.parametrize("version", ["", "-1", "latest", "1\n", "1\x1b[2K", "9" * 21, "\u0661"])
def test_a_release_is_a_number(version: str) -> None:
    with pytest.raises(ServerFailed, match="expected a release number"):
        read(ranking(ROWS, release=version))
    with pytest.raises(ContractMismatch, match="expected a number"):
        served_release("m", metadata(release=version))


def test_the_last_release_of_the_metadata_is_the_one() -> None:
    many = metadata()
    many.versions[:] = ["1", "20"]
    assert served_release("m", many) == "20"
    del many.versions[:]
    with pytest.raises(ContractMismatch, match="expected a number"):
        served_release("m", many)


def tensor(shape: list[int], contents: bytes, dtype: str = "FP32") -> triton.InferResult:
    answer = pb.ModelInferResponse(model_version="1")
    answer.outputs.add(name="USER_PRIOR", datatype=dtype, shape=shape)
    answer.raw_output_contents.append(contents)
    return triton.InferResult(answer)


def test_a_tensor_is_read_in_its_shape() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    read = read_tensor(tensor([2, 3], values.tobytes()), contract.USER_PRIOR, 2, 3)
    np.testing.assert_array_equal(read, values)
    assert read.dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "size", "dtype"),
    [
        ([2, 3], 20, "FP32"),
        ([2, 3], 28, "FP32"),
        ([3, 2], 24, "FP32"),
        ([6], 24, "FP32"),
        ([2, 3, 1], 24, "FP32"),
        ([2, 4], 32, "FP32"),
        ([3, 3], 36, "FP32"),
        ([2, 3], 24, "INT32"),
        ([2, 3], 12, "FP16"),
        ([2**40, 2**40], 24, "FP32"),
    ],
)
def test_another_tensor_is_refused(shape: list[int], size: int, dtype: str) -> None:
    with pytest.raises(ServerFailed, match="malformed"):
        read_tensor(tensor(shape, bytes(size), dtype), contract.USER_PRIOR, 2, 3)


def test_the_size_of_the_vocabulary() -> None:
    assert vocabulary_size("m", metadata(N), LIMIT) == N
    assert vocabulary_size("m", metadata(1), LIMIT) == 1


@pytest.mark.parametrize("n", [0, -1, -5])
def test_a_vocabulary_without_a_size_is_refused(n: int) -> None:
    with pytest.raises(ContractMismatch, match="is it the ensemble"):
        vocabulary_size("m", metadata(n), LIMIT)


def test_metadata_without_shapes_or_tensors_are_refused() -> None:
    flat, none = metadata(), metadata()
    del flat.outputs[0].shape[:]
    del none.outputs[:]
    for answer in (flat, none, pb.ModelMetadataResponse()):
        with pytest.raises(ContractMismatch, match="expects IMAGE UINT8"):
            vocabulary_size("m", answer, LIMIT)


@pytest.mark.parametrize("tensor", ["IMAGE", "USER_TAG_COUNTS", "TAGS"])
def test_each_tensor_has_to_be_the_contracts(tensor: str) -> None:
    for change in ("datatype", "shape", "name"):
        answer = metadata(N)
        (entry,) = (each for each in [*answer.inputs, *answer.outputs] if each.name == tensor)
        if change == "shape":
            entry.shape.append(1)
        else:
            setattr(entry, change, "FP16")
        with pytest.raises(ContractMismatch, match=r"model 'm' serves .* expects [A-Z_]+ "):
            vocabulary_size("m", answer, LIMIT)


def test_an_older_contract_is_named() -> None:
    old = metadata(N)
    old.inputs[1].name = "USER_HISTORY"
    with pytest.raises(ContractMismatch, match=r"speaks contract 1 \(USER_HISTORY\), this client speaks contract 2"):
        vocabulary_size("m", old, LIMIT)


def test_a_vocabulary_that_no_request_can_hold_is_refused_before_anything_is_made() -> None:
    image = math.prod(contract.IMAGE.dims)
    assert vocabulary_size("m", metadata(1000), image + 4000) == 1000
    with pytest.raises(ContractMismatch, match=r"1,001 tags, .* limit of 154,528 bytes.* raise max_message_bytes"):
        vocabulary_size("m", metadata(1001), image + 4000)
    tracemalloc.start()
    try:
        with pytest.raises(ContractMismatch, match="134,217,728 tags"):
            vocabulary_size("m", metadata(2**27), LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_many_strange_tensors_make_a_short_message() -> None:
    answer = metadata(N)
    answer.outputs[0].datatype = "FP16"
    for i in range(1000):
        answer.outputs.add(name=f"{i:0200d}", datatype="FP32", shape=[-1, N])
    with pytest.raises(ContractMismatch, match="is it the ensemble") as raised:
        vocabulary_size("m", answer, LIMIT)
    assert len(str(raised.value)) <= 1000


def test_any_bytes_in_place_of_entries_are_refused_or_read() -> None:
    """Never another exception, whatever the bytes."""
    rng = np.random.default_rng(5)
    good = bytearray(strings(ROWS[0]))
    for _ in range(3000):
        spoiled = good.copy()
        for place in rng.integers(0, len(good), rng.integers(1, 4)):
            spoiled[place] = rng.integers(0, 256)
        answer = ranking(ROWS[:1])
        answer.raw_output_contents[0] = bytes(spoiled)
        try:
            (row,) = read(answer, 1)
        except (ServerFailed, ContractMismatch):
            continue
        assert all(0 <= index < N and 0 <= score <= 1 for index, score, _ in row)
