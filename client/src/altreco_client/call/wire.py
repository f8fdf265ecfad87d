"""Conversions between arrays and tritonclient's requests and answers."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from .. import contract
from ..errors import ContractMismatch


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


def read_answer(result: triton.InferResult, rows: int) -> Answer:
    """Read the entries `score:index:label`; raises ContractMismatch for any other answer."""
    entries = result.as_numpy(contract.TAGS.name)
    if entries is None or len(entries) != rows:
        raise ContractMismatch(f"the server's answer has no {contract.TAGS.name} for {rows} rows")
    return Answer(tuple(map(_read_row, entries)), result.get_response().model_version)


def read_tensor(result: triton.InferResult, tensor: contract.Tensor) -> NDArray[np.float32]:
    """Read a component's output [batch, *dims]; raises ContractMismatch."""
    array: NDArray[np.float32] | None = result.as_numpy(tensor.name)
    dims = () if array is None else array.shape[1:]
    fits = len(dims) == len(tensor.dims) and all(dim in (-1, size) for dim, size in zip(tensor.dims, dims, strict=True))
    if array is None or not fits or array.dtype != np.float32:
        raise ContractMismatch(f"the server's answer has no {tensor.name} {tensor.dtype} {list(tensor.dims)}")
    return array


def _read_row(entries: Sequence[bytes]) -> tuple[RankedClass, ...]:
    classes = []
    for entry in entries:
        score, index, *label = entry.decode().split(":", 2)
        if not label:
            raise ContractMismatch(
                f"the server's {contract.TAGS.name} has no label for class {index}: "
                f"its model repository lacks {contract.LABELS_FILE}, or the file is too short"
            )
        classes.append(RankedClass(int(index), float(score), label[0]))
    return tuple(classes)


def vocabulary_size(model: str, metadata: Any) -> int:
    """N from the ensemble's metadata; raises ContractMismatch if its tensors are not those of the contract."""
    served = {t.name: (t.datatype, list(t.shape)[1:]) for t in [*metadata.inputs, *metadata.outputs]}
    _check_version(model, served)
    n = served.get(contract.TAGS.name, ("", [0]))[1][-1]
    for tensor in (*contract.TAG_RECOMMENDER.inputs, *contract.TAG_RECOMMENDER.outputs):
        expected = (tensor.dtype, [n if dim == -1 else dim for dim in tensor.dims])
        if served.get(tensor.name) != expected or n < 1:
            raise ContractMismatch(
                f"model {model!r} serves {served}, but this client, which speaks contract {contract.VERSION}, expects "
                f"{tensor.name} {expected[0]} {expected[1]}: is it the ensemble? If its contract is newer, upgrade "
                "altreco-client"
            )
    return int(n)


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
