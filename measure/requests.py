"""Synthetic requests: noise pictures, some of them repeated, and users' histories."""

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import tritonclient.grpc as triton
from altreco_client import contract
from altreco_client.call.wire import inputs
from numpy.typing import NDArray

T = TypeVar("T")
Seed = int | Sequence[int] | None
"""The same seed gives the same values; None gives new ones each time."""

TAGS_IN_HISTORY, LARGEST_COUNT = 20, 60
KNOWN_PICTURES = 8

Arrays = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""IMAGE [1, 224, 224, 3] and USER_TAG_COUNTS [1, N]."""

Request = list[triton.InferInput]
"""Inputs of the ensemble for one picture."""


def new_pictures(seed: Seed = None) -> Iterator[NDArray[np.uint8]]:
    """Yield noise pictures without end, uint8 [224, 224, 3]; without a seed, no cache has seen them.

    Only the first row of pixels differs, because drawing whole pictures would take ten times as long.
    """
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, contract.IMAGE.dims, dtype=np.uint8)
    while True:
        picture = base.copy()
        picture[0] = rng.integers(0, 256, picture[0].shape, dtype=np.uint8)
        yield picture


def history(tags: Sequence[str], seed: Seed = None) -> dict[str, float]:
    """Draw a user's history: at most TAGS_IN_HISTORY of the tags, with raw counts that fall as 1 / rank."""
    row = history_row(len(tags), seed)[0]
    return {tags[i]: float(row[i]) for i in np.flatnonzero(row).tolist()}


def history_row(tags: int, seed: Seed = None) -> NDArray[np.float32]:
    """Draw the USER_TAG_COUNTS [1, N] of the same user, float32."""
    row, drawn = np.zeros((1, tags), dtype=np.float32), _drawn(tags, seed)
    row[0, drawn] = np.round(LARGEST_COUNT / np.arange(1, len(drawn) + 1))
    return row


def new_arrays(tags: int, seed: Seed = None) -> Iterator[Arrays]:
    """Yield new pictures of one user, with the history, without end; `tags` is N."""
    row = history_row(tags, seed)
    for picture in new_pictures(seed):
        yield picture[np.newaxis], row


def new_requests(tags: int, seed: Seed = None) -> Iterator[Request]:
    """Yield requests with new pictures of one user without end; `tags` is N."""
    for image, row in new_arrays(tags, seed):
        yield inputs((contract.IMAGE, image), (contract.USER_TAG_COUNTS, row))


def known(new: Iterator[T]) -> list[T]:
    """Take the first KNOWN_PICTURES of a stream, to send them again."""
    return list(itertools.islice(new, KNOWN_PICTURES))


def mixed(new: Iterator[T], again: Sequence[T], repeated: float) -> Iterator[T]:
    """Yield from `new`, with a share `repeated` (0 to 1) taken from `again` in turn, evenly spread."""
    turns = itertools.cycle(again)
    for i in itertools.count():
        yield next(turns) if int((i + 1) * repeated) > int(i * repeated) else next(new)


def _drawn(tags: int, seed: Seed) -> NDArray[np.int64]:
    return np.random.default_rng(seed).choice(tags, min(TAGS_IN_HISTORY, tags), replace=False)
