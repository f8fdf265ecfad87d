"""The counts of a user's tags in the order of the vocabulary, which is the input of the preference encoder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidHistory, UnknownTag
from .history import TagHistory
from .history_checks import MAX_TAG_LENGTH, checked_count, shown
from .vocabulary import Vocabulary

UnknownTags: TypeAlias = Literal["error", "ignore"]
"""How to handle history tags outside the vocabulary."""


def tag_counts(
    history: Mapping[str, float] | None,
    vocabulary: Vocabulary,
    *,
    unknown_tags: UnknownTags | None = None,
) -> NDArray[np.float32]:
    """Return the raw counts of a history (tag -> count over the user's past pictures), float32 [N], as they are sent.

    None or {} is a user without history: all counts are zero. With `unknown_tags` "error", tags outside the vocabulary
    raise UnknownTag; with "ignore", they are left out. The default is "ignore" for a TagHistory, whose tags may be
    older than the vocabulary, and "error" for any other mapping, where such a tag is probably a typing error.

    Raises InvalidHistory if the history is not a mapping of str to finite counts of zero or more that fit float32.

    >>> vocabulary = Vocabulary(("sea", "beach", "sky"))
    >>> tag_counts({"beach": 1, "sea": 4}, vocabulary)
    array([4., 1., 0.], dtype=float32)
    >>> tag_counts(TagHistory({"sky": 2, "zeppelin": 1}), vocabulary)
    array([0., 0., 2.], dtype=float32)
    """
    return tag_counts_and_unknown(history, vocabulary, unknown_tags=unknown_tags)[0]


def tag_counts_and_unknown(
    history: Mapping[str, float] | None,
    vocabulary: Vocabulary,
    *,
    unknown_tags: UnknownTags | None = None,
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return `tag_counts`, and the history's tags outside the vocabulary."""
    counts = np.zeros(len(vocabulary), dtype=np.float32)
    return counts, fill_tag_counts(counts, history, vocabulary, unknown_tags)


def fill_tag_counts(
    counts: NDArray[np.float32],
    history: Mapping[str, float] | None,
    vocabulary: Vocabulary,
    unknown_tags: UnknownTags | None,
) -> tuple[str, ...]:
    """Write `tag_counts` into zeros [N], such as a row of a batch. Return the tags outside the vocabulary."""
    if history is None:
        return ()
    kept = type(history) is TagHistory  # its counts were checked when it was made
    if not isinstance(history, Mapping):
        raise InvalidHistory(f"history is {shown(history)}: expected a TagHistory, or a mapping of tags to counts")
    find = vocabulary.index.get
    unknown = []
    for tag, count in history.items():
        number = count if kept else checked_count(tag, count)
        if (place := find(tag)) is None:
            unknown.append(tag)
        else:
            counts[place] = number
    if unknown and (unknown_tags or ("ignore" if kept else "error")) != "ignore":
        raise _unknown(tuple(unknown), vocabulary)
    return tuple(unknown)


def _unknown(tags: tuple[str, ...], vocabulary: Vocabulary) -> UnknownTag:
    near = difflib.get_close_matches(tags[0][:MAX_TAG_LENGTH], vocabulary.tags, n=3)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return UnknownTag(
        f"not among the server's {len(vocabulary)} tags: {', '.join(map(shown, tags[:5]))}"
        f"{f' and {len(tags) - 5} more' if len(tags) > 5 else ''}{hint}; "
        'pass unknown_tags="ignore" to leave such tags out',
        tags,
    )
