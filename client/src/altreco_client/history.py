"""A user's tag history u_h: from counts of tags to the vector that the preference encoder takes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InvalidHistory, UnknownTag


@dataclass(frozen=True)
class Vocabulary:
    """The N tags in the order of the model's tensors."""

    tags: tuple[str, ...]
    index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the tags; raises ValueError when one stands twice."""
        object.__setattr__(self, "index", {tag: i for i, tag in enumerate(self.tags)})
        if len(self.index) != len(self.tags):
            raise ValueError(f"a vocabulary holds each tag once: {len(self.tags) - len(self.index)} repeated")

    def __len__(self) -> int:
        """N."""
        return len(self.tags)


def normalize(counts: ArrayLike) -> NDArray[np.float32]:
    """u_h: counts [..., N] divided by the largest of each row (paper, section IV a); a zero row stays zero."""
    array = np.asarray(counts, dtype=np.float32)
    largest = array.max(axis=-1, keepdims=True)
    return np.divide(array, largest, out=np.zeros_like(array), where=largest > 0)


def history_vector(
    history: Mapping[str, float] | None,
    vocabulary: Vocabulary,
    *,
    unknown_tags: Literal["error", "ignore"] = "error",
) -> NDArray[np.float32]:
    """The history (tag -> count over the user's past pictures) as u_h, float32 [N]; None or {}: cold start.

    Raises InvalidHistory for a count that is negative or not finite, and UnknownTag for tags outside the
    vocabulary unless `unknown_tags="ignore"`.
    """
    counts = np.zeros(len(vocabulary), dtype=np.float64)
    unknown = []
    for tag, count in (history or {}).items():
        _check_count(tag, count)
        if (index := vocabulary.index.get(tag)) is None:
            unknown.append(tag)
        else:
            counts[index] = count
    if unknown and unknown_tags == "error":
        raise _unknown(tuple(unknown), vocabulary)
    return normalize(counts / (counts.max() or 1))  # in double: a count may be beyond float32


def _check_count(tag: str, count: float) -> None:
    number = isinstance(count, int | float | np.number) and not isinstance(count, bool)
    if not number or not math.isfinite(count) or count < 0:
        raise InvalidHistory(f"count of {tag!r} is {count!r}: expected a finite number of zero or more")


def _unknown(tags: tuple[str, ...], vocabulary: Vocabulary) -> UnknownTag:
    near = difflib.get_close_matches(tags[0], vocabulary.tags, n=3)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return UnknownTag(
        f"not among the server's {len(vocabulary)} tags: {', '.join(map(repr, tags[:5]))}"
        f"{f' and {len(tags) - 5} more' if len(tags) > 5 else ''}{hint}; "
        'pass unknown_tags="ignore" to leave such tags out',
        tags,
    )
