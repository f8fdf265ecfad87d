"""The counts of a user's tags in the order of the vocabulary, which is the input of the preference encoder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .checks import MAX_TAG_LENGTH, checked_count, checked_mapping, checked_tag
from .errors import InvalidHistory, UnknownTag
from .history import TagHistory
from .text import shown
from .vocabulary import Vocabulary

UnknownTags: TypeAlias = Literal["error", "ignore"]
"""How to handle history tags outside the vocabulary."""

COMPARED_TAGS = 2_000
"""Most tags that are compared with an unknown one for a suggestion, which takes some 10 us each."""


def tag_counts(
    history: Mapping[str, float] | None,
    vocabulary: Vocabulary,
    *,
    unknown_tags: UnknownTags | None = None,
) -> NDArray[np.float32]:
    """Return the raw counts of a history (tag -> count over the user's past pictures), float32 [N], as they are sent.

    None or {} is a user without history: all counts are zero. With `unknown_tags` "error", tags outside the vocabulary
    raise UnknownTag; with "ignore", they are left out. The default is "ignore" for a TagHistory, whose tags may be
    older than the vocabulary, and "error" for any other mapping, where such a tag is probably a typing error. White
    space around a tag and its Unicode form make no difference.

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
    unknown = fill_tag_counts(counts, history, vocabulary)
    if unknown and refuses_unknown(history, unknown_tags):
        raise unknown_tag(unknown, vocabulary)
    return counts, unknown


def fill_tag_counts(
    counts: NDArray[np.float32], history: Mapping[str, float] | None, vocabulary: Vocabulary
) -> tuple[str, ...]:
    """Write `tag_counts` into zeros [N], such as a row of a batch. Return the tags outside the vocabulary."""
    if history is None:
        return ()
    kept = type(history) is TagHistory  # its tags and counts were checked when it was made
    find = vocabulary.index.get
    missing = []
    for tag, count in checked_mapping(history).items():
        number = count if kept else checked_count(tag, count)
        if (place := find(tag)) is None:
            missing.append((tag, number))
        else:
            counts[place] = number
    if kept:
        return tuple([tag for tag, _ in missing])
    return tuple([tag for tag, number in missing if not _add_spelled_otherwise(counts, tag, number, vocabulary)])


def _add_spelled_otherwise(counts: NDArray[np.float32], tag: str, number: float, vocabulary: Vocabulary) -> bool:
    """Add the count of a tag that is known but for white space around it or its Unicode form; whether it is."""
    try:
        place = vocabulary.index.get(checked_tag(tag))
    except InvalidHistory:
        return False
    if place is None:
        return False
    counts[place] = checked_count(tag, float(counts[place]) + number)
    return True


def refuses_unknown(history: Mapping[str, float] | None, unknown_tags: UnknownTags | None) -> bool:
    """Whether tags outside the vocabulary are an error in this history."""
    return (unknown_tags or ("ignore" if type(history) is TagHistory else "error")) != "ignore"


def unknown_tag(tags: tuple[str, ...], vocabulary: Vocabulary) -> UnknownTag:
    """The error for tags outside the vocabulary, with suggestions for the first one."""
    first = tags[0][:MAX_TAG_LENGTH]
    near = difflib.get_close_matches(first, _candidates(first, vocabulary), n=3)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return UnknownTag(
        f"not among the server's {len(vocabulary)} tags: {', '.join(map(shown, tags[:5]))}"
        f"{f' and {len(tags) - 5} more' if len(tags) > 5 else ''}{hint}; "
        'pass unknown_tags="ignore" to leave such tags out',
        tags,
    )


def _candidates(tag: str, vocabulary: Vocabulary) -> Sequence[str]:
    """All tags of a small vocabulary; of a large one, only some that begin alike and are about as long."""
    if len(vocabulary) <= COMPARED_TAGS:
        return vocabulary.tags
    alike = (one for one in vocabulary.tags if one[:1] == tag[:1] and abs(len(one) - len(tag)) <= 2)
    return list(islice(alike, COMPARED_TAGS))
