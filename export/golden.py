"""The golden set of a release: real inputs, and the answers of its models at the time of the export."""

import math
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from altreco_client import contract
from altreco_client.text import printable
from numpy.typing import NDArray

from export.errors import GoldenSetError

GOLDEN_FILE = "golden.npz"
BATCH_SIZES = (1, 3, 8)
"""None of them is the size that the export was traced with. 3 does not divide the set, so its last batch is smaller."""

MOST_INPUTS, MOST_BYTES = 100, 256 * 2**20
"""Limits of a golden set that is read; at most so many bytes after unpacking."""
DTYPES = {"version": "<i8", "names": "<U[0-9]+", "image": r"\|u1", "counts": "<f4", "tags": "<f4"}
"""Each array's dtype as numpy.dtype.str, a pattern."""

UNREADABLE = (OSError, ValueError, KeyError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile and numpy raise for a damaged file."""

Recommender = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]
"""Maps IMAGE uint8 [batch, 224, 224, 3] and USER_TAG_COUNTS float32 [batch, N] to TAGS float32 [batch, N]."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """G named inputs as sent over gRPC: `image` uint8 [G, 224, 224, 3] and `counts` float32 [G, N]."""

    names: tuple[str, ...]
    image: NDArray[np.uint8]
    counts: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class GoldenSet:
    """Inputs and the answers `tags`, float32 [G, N], of release `version`'s ONNX files to each input alone."""

    version: int
    inputs: Inputs
    tags: NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference of any tag's probability, and its input. NaN counts as infinite."""

    value: float
    where: str


def replay(
    inputs: Inputs, expected: NDArray[np.float32], recommend: Recommender, *, max_batch: int = max(BATCH_SIZES)
) -> Difference:
    """Run all inputs one by one and in batches of up to `max_batch`, and compare the answers with `expected` [G, N]."""
    worst = Difference(-1.0, "")
    for size in (size for size in BATCH_SIZES if size <= max_batch):
        for start in range(0, len(inputs.names), size):
            part = slice(start, start + size)
            answer = recommend(inputs.image[part], inputs.counts[part])
            by_input = np.nan_to_num(np.abs(answer - expected[part]), nan=np.inf).max(1)
            i = int(by_input.argmax())
            if by_input[i] > worst.value:
                alone = "alone" if size == 1 else f"in a batch of {len(by_input)}"
                worst = Difference(float(by_input[i]), f"at {inputs.names[start + i]}, {alone}")
    return worst


def save_golden_set(path: Path, golden: GoldenSet) -> None:
    """Write a golden set to `path`. Not atomic: write to a temporary place and rename."""
    inputs = golden.inputs
    np.savez_compressed(
        path,
        version=np.array(golden.version),
        names=np.array(inputs.names),
        image=inputs.image,
        counts=inputs.counts,
        tags=golden.tags,
    )


def load_golden_set(path: Path, *, version: int) -> GoldenSet:
    """Read release `version`'s golden set. Raises GoldenSetError if it is missing, damaged or another release's."""
    try:
        _check_headers(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = int(arrays["version"])
            names = tuple(printable(str(name)) for name in arrays["names"])
            inputs = Inputs(names=names, image=arrays["image"], counts=arrays["counts"])
            golden = GoldenSet(version=found, inputs=inputs, tags=arrays["tags"])
    except FileNotFoundError as error:
        raise GoldenSetError(f"no golden set at {path}; was release {version} pruned?") from error
    except UNREADABLE as error:
        raise GoldenSetError(f"{path} is not a readable golden set: {printable(str(error))[:200]}") from error
    if found != version:
        raise GoldenSetError(f"{path} belongs to release {found}, expected release {version}'s")
    return golden


def _check_headers(path: Path) -> None:
    """Raise ValueError unless the arrays have the shapes and dtypes of a golden set. Unpacks only their headers."""
    if not path.is_file():
        raise FileNotFoundError(path)
    shapes, size = {}, 0
    with zipfile.ZipFile(path) as archive:
        for name, pattern in DTYPES.items():
            with archive.open(f"{name}.npy") as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError(f"{name}: expected version 1.0 of numpy's format")
                shapes[name], _, dtype = np.lib.format.read_array_header_1_0(file)
            size += math.prod(shapes[name]) * dtype.itemsize
            if not re.fullmatch(pattern, dtype.str):
                raise ValueError(f"{name}: expected dtype {pattern}, found {dtype.str}")
    count, tags = shapes["tags"] if len(shapes["tags"]) == 2 else (0, 0)
    expected = {
        "version": (),
        "names": (count,),
        "image": (count, *contract.IMAGE.dims),
        "counts": (count, tags),
        "tags": (count, tags),
    }
    if shapes != expected or not 1 <= count <= MOST_INPUTS or size > MOST_BYTES:
        raise ValueError(
            f"expected 1 to {MOST_INPUTS} images, counts and tags of at most {MOST_BYTES:,} bytes, found {shapes}"
        )
