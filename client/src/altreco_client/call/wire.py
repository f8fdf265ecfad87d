"""Conversions between arrays and tritonclient's requests and answers.

A server may be broken, or no Triton at all. Everything that is read from its answers is checked here, and nothing is
allocated on its word alone: sizes are those of the request. A malformed answer raises ServerFailed, and a model that is
not the one of the contract ContractMismatch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from .. import contract
from ..errors import ContractMismatch, ServerFailed
from ..text import shown

RELEASE = re.compile(r"[0-9]{1,20}", re.ASCII)
IMAGE_BYTES = math.prod(contract.IMAGE.dims)


class RankedClass(NamedTuple):
    """One entry of Triton's classification extension."""

    class_index: int
    score: float
    label: str


@dataclass(frozen=True)
class Answer:
    """The classes of each row of the batch, best first, and the version of the model that answered."""

    rows: tuple[tuple[RankedClass, ...], ...]
    version: str


def inputs(*tensors: tuple[contract.Tensor, NDArray[Any]]) -> list[triton.InferInput]:
    """Input tensors from arrays [batch, *dims]. The arrays must have the tensors' dtypes."""
    entries = []
    for tensor, array in tensors:
        entry = triton.InferInput(tensor.name, array.shape, tensor.dtype)
        entry.set_data_from_numpy(array)
        entries.append(entry)
    return entries


def ranked(k: int) -> list[triton.InferRequestedOutput]:
    """A request for the k best classes of TAGS with their labels, sorted by the server."""
    return [triton.InferRequestedOutput(contract.TAGS.name, class_count=k)]


def read_answer(result: triton.InferResult, rows: int, k: int, n: int) -> Answer:
    """Read k entries `score:index:label` for each row, of n classes. Raises ServerFailed and ContractMismatch."""
    answer = result.get_response()
    entries = _strings(_contents(answer, contract.TAGS.name, "BYTES", (rows, k)), rows * k)
    ranks = tuple(_read_row(entries[start : start + k], n) for start in range(0, rows * k, k))
    if not RELEASE.fullmatch(answer.model_version):
        raise _malformed(f"a release number, found {shown(answer.model_version)}")
    return Answer(ranks, answer.model_version)


def read_tensor(result: triton.InferResult, tensor: contract.Tensor, rows: int, n: int) -> NDArray[np.float32]:
    """Read a component's float32 output [rows, *dims], where N is n; raises ServerFailed."""
    shape = (rows, *(n if dim == -1 else dim for dim in tensor.dims))
    buffer = _contents(result.get_response(), tensor.name, tensor.dtype, shape)
    if len(buffer) != 4 * math.prod(shape):
        raise _malformed(f"{4 * math.prod(shape):,} bytes in {tensor.name}, found {len(buffer):,}")
    return np.frombuffer(buffer, dtype="<f4").reshape(shape)


def _contents(answer: Any, name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """The bytes of an output that has this dtype and shape."""
    for place, output in enumerate(answer.outputs):
        if output.name == name:
            if output.datatype != dtype or tuple(output.shape) != shape:
                found = f"{output.datatype} {list(output.shape[:8])}"
                raise _malformed(f"{name} {dtype} {list(shape)}, found {found}")
            if place >= len(answer.raw_output_contents):
                raise _malformed(f"{name} {dtype} {list(shape)}, found it without contents")
            contents: bytes = answer.raw_output_contents[place]
            return contents
    raise _malformed(f"{name} {dtype} {list(shape)}, found the outputs {shown([o.name for o in answer.outputs])}")


def _strings(buffer: bytes, count: int) -> list[bytes]:
    """The `count` strings of a BYTES tensor, each of which follows its length in 4 bytes."""
    strings, end = [], 0
    for _ in range(count):
        start = end + 4
        end = start + int.from_bytes(buffer[end:start], "little")
        strings.append(buffer[start:end])
    if end != len(buffer):
        raise _malformed(f"{count} strings in {contract.TAGS.name}, found other contents")
    return strings


def _read_row(entries: list[bytes], n: int) -> tuple[RankedClass, ...]:
    classes, most = [], 1.0
    for entry in entries:
        try:
            score, index, *label = entry.decode().split(":", 2)
            ranked_class = RankedClass(int(index), float(score), label[0] if label else "")
        except ValueError:  # a word in place of a number, or no UTF-8
            raise _malformed(f"score:index:label in {contract.TAGS.name}, found {shown(entry)}") from None
        if not label:
            raise ContractMismatch(
                f"the server's {contract.TAGS.name} has no label for class {ranked_class.class_index}: "
                f"its model repository lacks {contract.LABELS_FILE}, or the file is too short"
            )
        if not (0 <= ranked_class.score <= most and 0 <= ranked_class.class_index < n):
            raise _malformed(
                f"probabilities, best first, of classes 0 to {n - 1} in {contract.TAGS.name}, found {shown(entry)}"
            )
        most = ranked_class.score
        classes.append(ranked_class)
    if len({entry.class_index for entry in classes}) != len(classes):
        raise _malformed(f"each class once in a row of {contract.TAGS.name}, found one repeated")
    return tuple(classes)


def _malformed(words: str) -> ServerFailed:
    return ServerFailed(
        f"the server's answer is malformed: expected {words}; is it Triton, and which proxies are in between?"
    )


def vocabulary_size(model: str, metadata: Any, largest_message: int) -> int:
    """N from the ensemble's metadata. Raises ContractMismatch if its tensors are not those of the contract.

    `largest_message` is the limit in bytes for a request, which bounds N.
    """
    served = {t.name: (t.datatype, list(t.shape)[1:]) for t in [*metadata.inputs, *metadata.outputs]}
    _check_version(model, served)
    n = sum(served.get(contract.TAGS.name, ("", []))[1][-1:])
    for tensor in (*contract.TAG_RECOMMENDER.inputs, *contract.TAG_RECOMMENDER.outputs):
        expected = (tensor.dtype, [n if dim == -1 else dim for dim in tensor.dims])
        if served.get(tensor.name) != expected or n < 1:
            raise ContractMismatch(
                f"model {model!r} serves {shown(served)}, but this client, which speaks contract {contract.VERSION}, "
                f"expects {tensor.name} {expected[0]} {expected[1]}: is it the ensemble? If its contract is newer, "
                "upgrade altreco-client"
            )
    if IMAGE_BYTES + 4 * n > largest_message:
        raise ContractMismatch(
            f"model {model!r} has {n:,} tags, and a request with as many counts exceeds the limit of "
            f"{largest_message:,} bytes: is it the right server? If it is, raise max_message_bytes"
        )
    return int(n)


def served_release(model: str, metadata: Any) -> str:
    """The release that the ensemble's metadata names; raises ContractMismatch if it is none."""
    versions = list(metadata.versions[-1:])
    if not versions or not RELEASE.fullmatch(versions[0]):
        raise ContractMismatch(f"model {model!r} names its release {shown(versions)}: expected a number")
    return str(versions[0])


def _check_version(model: str, served: Container[str]) -> None:
    """Raise ContractMismatch if the tensors are those of another version of the contract."""
    ours = contract.VERSION
    for name, version in contract.HISTORY_INPUTS.items():
        if name in served and version != ours:
            raise ContractMismatch(
                f"model {model!r} speaks contract {version} ({name}), this client speaks contract {ours} "
                f"({contract.USER_TAG_COUNTS.name}): upgrade the server to a release of contract {ours}, or install an "
                f"altreco-client of contract {version}"
            )
