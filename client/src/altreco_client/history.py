"""A user's history: the count of each tag over the user's past pictures."""

from __future__ import annotations

import heapq
import json
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from typing import Any, final

from .checks import checked_count, checked_tag, checked_whole, iterate
from .errors import InvalidHistory, InvalidRequest
from .text import shown
from .vocabulary import Vocabulary

VERSION = 1
"""Version of the JSON format of `to_json`."""

MAX_TAGS = 1_000_000
"""Most different tags in one history: far more than a person uses, and few enough for a server's memory."""


@final
class TagHistory(Mapping[str, float]):
    """Tag -> count over a user's past pictures (paper, section IV a). It is immutable, so threads may share it.

    White space around a tag is removed. A tag with a count of zero is not in the history. Tags that the server does not
    know are kept but not sent: a later release may know them.

    A tag is a str of 1 to 1,000 characters on one line, without control characters or lone surrogates. A count is a
    finite int or float of zero or more, or one of numpy's, and fits float32. A history has at most 1,000,000 tags.
    Raises InvalidHistory for anything else.

    >>> history = TagHistory({"sea": 2}).add(["sea", "beach"])
    >>> history
    TagHistory({'sea': 3, 'beach': 1})
    >>> history["sea"], history.get("dog", 0)
    (3, 0)
    """

    __slots__ = ("_counts",)
    _counts: dict[str, float]

    def __init__(self, counts: Mapping[str, float] | None = None) -> None:
        """Check and copy the counts; None: a user without past pictures."""
        self._counts = _checked_counts({} if counts is None else counts)

    @classmethod
    def from_pictures(cls, pictures: Iterable[Iterable[str]]) -> TagHistory:
        """Build a history from the tags of each past picture.

        >>> TagHistory.from_pictures([["sea", "beach"], ["sea"]])
        TagHistory({'sea': 2, 'beach': 1})
        """
        counts: dict[str, float] = {}
        for picture in iterate(pictures, "pictures", "a list of each picture's tags"):
            for tag in _picture(picture):
                counts[tag] = counts.get(tag, 0) + 1
        return _of(counts)

    def add(self, tags: Iterable[str]) -> TagHistory:
        """Return a history with one more picture, which has these tags. A repeated tag counts once.

        >>> TagHistory({"sea": 2}).add(["sea", "dog", "dog"])
        TagHistory({'sea': 3, 'dog': 1})
        """
        return self.merge(_of(_picture(tags)))

    def merge(self, other: Mapping[str, float]) -> TagHistory:
        """Return a history with the counts of both added up.

        >>> TagHistory({"sea": 2}).merge({"sea": 1, "dog": 4})
        TagHistory({'dog': 4, 'sea': 3})
        """
        counts = self._counts.copy()
        for tag, count in _checked_counts(other).items():
            counts[tag] = checked_count(tag, counts.get(tag, 0) + count)
        return _of(counts)

    def subtract(self, other: Mapping[str, float] | Iterable[str]) -> TagHistory:
        """Return a history without another one's counts, or without one picture's tags, such as a deleted picture's.

        Counts do not fall below zero, and a tag with a count of zero is removed. Tags that are not in the history are
        ignored.

        >>> TagHistory({"sea": 2, "dog": 1}).subtract(["sea", "dog", "sky"])
        TagHistory({'sea': 1})
        """
        counts = self._counts.copy()
        taken = _checked_counts(other) if isinstance(other, Mapping) else _picture(other)
        for tag, count in taken.items():
            left = counts.pop(tag, 0) - count
            if left > 0:
                counts[tag] = left
        return _of(counts)

    def prune(self, *, keep: int | None = None, min_count: float | None = None) -> TagHistory:
        """Return only the `keep` most frequent tags, only those with a count of at least `min_count`, or both.

        Raises InvalidRequest if neither is given or one is negative.

        >>> TagHistory({"sea": 9, "dog": 2, "sky": 1}).prune(min_count=2)
        TagHistory({'sea': 9, 'dog': 2})
        """
        if keep is None and min_count is None:
            raise InvalidRequest("nothing to prune by: give keep, min_count or both")
        if min_count is not None and not min_count >= 0:
            raise InvalidRequest(f"min_count is {min_count!r}: expected zero or more")
        frequent = self._counts
        if min_count is not None:
            frequent = {tag: count for tag, count in frequent.items() if count >= min_count}
        if keep is not None:
            frequent = {tag: frequent[tag] for tag in most_frequent(frequent, keep)}
        return _of(frequent)

    def top(self, k: int) -> tuple[str, ...]:
        """The k most frequent tags, or all if there are fewer; ties by name. Raises InvalidRequest for a negative k.

        >>> TagHistory({"sky": 1, "sea": 3, "dog": 1}).top(2)
        ('sea', 'dog')
        """
        return tuple(most_frequent(self._counts, k))

    def known(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """The tags that the server knows."""
        return tuple(tag for tag in self._counts if tag in vocabulary.index)

    def unknown(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """The tags that the server does not know. They are not sent.

        >>> from altreco_client.vocabulary import Vocabulary
        >>> TagHistory({"sea": 3, "zeppelin": 1}).unknown(Vocabulary(("sea", "sky")))
        ('zeppelin',)
        """
        return tuple(tag for tag in self._counts if tag not in vocabulary.index)

    def to_json(self) -> str:
        """One line of ASCII for `from_json`. Equal counts of the same types give the same line.

        >>> TagHistory({"sea": 3, "dog": 1}).to_json()
        '{"counts": {"dog": 1, "sea": 3}, "version": 1}'
        """
        return json.dumps({"version": VERSION, "counts": self._counts}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> TagHistory:
        """Read the output of `to_json`; raises InvalidHistory for anything else."""
        try:
            document = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
        except InvalidHistory:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidHistory(f"not JSON: {error}; expected the output of TagHistory.to_json") from error
        return cls(_read(document))

    def items(self) -> ItemsView[str, float]:
        """Tags and counts. This is the dict's own view: the mixin's would look up each tag again."""
        return self._counts.items()

    def __getitem__(self, tag: str) -> float:
        """The tag's count; raises KeyError."""
        return self._counts[tag]

    def __iter__(self) -> Iterator[str]:
        """The tags, in the order in which they were added."""
        return iter(self._counts)

    def __len__(self) -> int:
        """The number of different tags."""
        return len(self._counts)

    def __repr__(self) -> str:
        """The most frequent tags, and the number of others."""
        parts = [f"{shown(tag)}: {self[tag]}" for tag in self.top(5)]
        if len(self) > len(parts):
            parts.append(f"... {len(self) - len(parts):,} more")
        return f"TagHistory({{{', '.join(parts)}}})"


def _of(counts: dict[str, float]) -> TagHistory:
    """Make a history of checked counts; raises InvalidHistory for too many tags."""
    _check_size(counts)
    history = TagHistory()
    history._counts = counts
    return history


def _check_size(counts: Mapping[str, float]) -> None:
    if len(counts) > MAX_TAGS:
        raise InvalidHistory(f"{len(counts):,} tags: expected at most {MAX_TAGS:,}; prune(keep=...) keeps it small")


def _checked_counts(counts: object) -> dict[str, float]:
    if isinstance(counts, TagHistory):
        return counts._counts
    if not isinstance(counts, Mapping):
        raise InvalidHistory(
            f"history is {shown(counts)}: expected a mapping of tags to counts, such as {{'sea': 3}}; "
            "TagHistory.from_pictures takes a list of each picture's tags"
        )
    _check_size(counts)
    checked: dict[str, float] = {}
    for entry, count in counts.items():
        tag = checked_tag(entry)
        checked[tag] = checked_count(tag, checked.get(tag, 0) + checked_count(tag, count))
    return {tag: count for tag, count in checked.items() if count}


def _picture(tags: object) -> dict[str, float]:
    """The tags of one picture, each with a count of 1."""
    if isinstance(tags, Mapping):
        raise InvalidHistory(f"tags are {shown(tags)}: expected one picture's tags; merge takes counts")
    each = iterate(tags, "tags", "a list of one picture's tags, such as ['sea']")
    return dict.fromkeys(map(checked_tag, each), 1)


def most_frequent(counts: Mapping[str, float], k: int) -> list[str]:
    """The k tags with the largest counts, ties by name; raises InvalidRequest for a k below 0."""
    k = checked_whole("number of tags", k, "a whole number of 0 or more", least=0)
    return heapq.nsmallest(k, counts, key=lambda tag: (-counts[tag], tag))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict. Repeated keys are refused, because json would drop one silently."""
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise InvalidHistory(f"{shown(key)} is repeated in the JSON: expected each key once")
        document[key] = value
    return document


def _refuse_constant(name: str) -> Any:
    raise InvalidHistory(f"{name} in the JSON: expected a finite number of zero or more")


def _read(document: object) -> Mapping[str, float]:
    expected = f'expected {{"version": {VERSION}, "counts": {{TAG: COUNT, ...}}}}, the output of TagHistory.to_json'
    if not isinstance(document, dict) or "version" not in document:
        raise InvalidHistory(f"not a history: {shown(document)}; {expected}")
    version = document["version"]
    if type(version) is not int or version != VERSION:
        raise InvalidHistory(f"a history of version {shown(version)}; {expected}. Is this altreco-client too old?")
    if document.keys() != {"version", "counts"} or not isinstance(document["counts"], dict):
        raise InvalidHistory(f"not a history: {shown(document)}; {expected}")
    counts: dict[str, float] = document["counts"]
    return counts
