"""A user's history as a value: how often each tag was given, over that user's past pictures."""

from __future__ import annotations

import heapq
import json
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from typing import Any, final

from .errors import InvalidHistory, InvalidRequest
from .history_checks import checked_count, checked_tag, iterate, shown
from .vocabulary import Vocabulary

VERSION = 1
"""Of the JSON that `to_json` writes."""

MAX_TAGS = 1_000_000
"""Different tags in one history: far over what a person uses, little enough for a server's memory."""


@final
class TagHistory(Mapping[str, float]):
    """Tag -> count over a user's past pictures (paper, section IV a). It never changes: threads may share it.

    White space around a tag is cut off. Counts are above zero: a tag that has none is not in the history. Tags
    that the server does not know are kept, and left out of the vector; the server may learn them.

    Raises InvalidHistory for anything but a mapping of tags (str of 1 to 1,000 characters on one line, no control
    characters or lone surrogates; at most 1,000,000) to finite counts of zero or more (int or float, numpy's included).

    >>> history = TagHistory({"sea": 2}).add(["sea", "beach"])
    >>> history
    TagHistory({'sea': 3, 'beach': 1})
    >>> history["sea"], history.get("dog", 0)
    (3, 0)
    """

    __slots__ = ("_counts",)
    _counts: dict[str, float]

    def __init__(self, counts: Mapping[str, float] | None = None) -> None:
        """Of counts; None: a user without past pictures."""
        self._counts = _checked_counts({} if counts is None else counts)

    @classmethod
    def from_pictures(cls, pictures: Iterable[Iterable[str]]) -> TagHistory:
        """Of each past picture's tags.

        >>> TagHistory.from_pictures([["sea", "beach"], ["sea"]])
        TagHistory({'sea': 2, 'beach': 1})
        """
        counts: dict[str, float] = {}
        for picture in iterate(pictures, "pictures", "a list of each picture's tags"):
            for tag in _picture(picture):
                counts[tag] = counts.get(tag, 0) + 1
        return _of(counts)

    def add(self, tags: Iterable[str]) -> TagHistory:
        """With one more picture, that has these tags. A tag counts once a picture, however often it is named.

        >>> TagHistory({"sea": 2}).add(["sea", "dog", "dog"])
        TagHistory({'sea': 3, 'dog': 1})
        """
        return self.merge(_of(_picture(tags)))

    def merge(self, other: Mapping[str, float]) -> TagHistory:
        """With the pictures of both: counts are added up.

        >>> TagHistory({"sea": 2}).merge({"sea": 1, "dog": 4})
        TagHistory({'dog': 4, 'sea': 3})
        """
        counts = self._counts.copy()
        for tag, count in _checked_counts(other).items():
            counts[tag] = checked_count(tag, counts.get(tag, 0) + count)
        return _of(counts)

    def subtract(self, other: Mapping[str, float] | Iterable[str]) -> TagHistory:
        """Without the pictures of another history, or without the tags of one picture, such as one that was deleted.

        Counts stop at zero and a tag without any is gone, so taking away what was never added changes nothing.

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
        """Only the `keep` most frequent tags, only those counted `min_count` times or more, or both.

        Raises InvalidRequest where neither is given or one is negative.

        >>> TagHistory({"sea": 9, "dog": 2, "sky": 1}).prune(min_count=2)
        TagHistory({'sea': 9, 'dog': 2})
        """
        if keep is None and min_count is None:
            raise InvalidRequest("nothing says what to prune: give keep, min_count or both")
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
        """The tags that the server does not know: kept here, and left out of the vector.

        >>> from altreco_client.vocabulary import Vocabulary
        >>> TagHistory({"sea": 3, "zeppelin": 1}).unknown(Vocabulary(("sea", "sky")))
        ('zeppelin',)
        """
        return tuple(tag for tag in self._counts if tag not in vocabulary.index)

    def to_json(self) -> str:
        """One line of ASCII, the same for equal counts of the same types; `from_json` reads it.

        >>> TagHistory({"sea": 3, "dog": 1}).to_json()
        '{"counts": {"dog": 1, "sea": 3}, "version": 1}'
        """
        return json.dumps({"version": VERSION, "counts": self._counts}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> TagHistory:
        """What `to_json` wrote; raises InvalidHistory for anything else."""
        try:
            document = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
        except InvalidHistory:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidHistory(f"no JSON: {error}; expected what TagHistory.to_json writes") from error
        return cls(_read(document))

    def items(self) -> ItemsView[str, float]:
        """Tags and counts; a dict's own view, because the mixin's looks each tag up again."""
        return self._counts.items()

    def __getitem__(self, tag: str) -> float:
        """The tag's count; raises KeyError."""
        return self._counts[tag]

    def __iter__(self) -> Iterator[str]:
        """The tags, as they came."""
        return iter(self._counts)

    def __len__(self) -> int:
        """How many different tags."""
        return len(self._counts)

    def __repr__(self) -> str:
        """The most frequent tags, and how many more."""
        parts = [f"{shown(tag)}: {self[tag]}" for tag in self.top(5)]
        if len(self) > len(parts):
            parts.append(f"... {len(self) - len(parts):,} more")
        return f"TagHistory({{{', '.join(parts)}}})"


def _of(counts: dict[str, float]) -> TagHistory:
    """Of counts that are right; raises InvalidHistory for too many."""
    _check_size(counts)
    history = TagHistory()
    history._counts = counts
    return history


def _check_size(counts: Mapping[str, float]) -> None:
    if len(counts) > MAX_TAGS:
        raise InvalidHistory(
            f"{len(counts):,} tags: expected at most {MAX_TAGS:,}; prune(keep=...) it before it grows so far"
        )


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
    """One picture's tags, each counted once."""
    if isinstance(tags, Mapping):
        raise InvalidHistory(f"tags are {shown(tags)}: expected one picture's tags; merge takes counts")
    each = iterate(tags, "tags", "a list of one picture's tags, such as ['sea']")
    return dict.fromkeys(map(checked_tag, each), 1)


def most_frequent(counts: Mapping[str, float], k: int) -> list[str]:
    """The k tags with the largest counts, ties by name; raises InvalidRequest for a negative k."""
    if k < 0:
        raise InvalidRequest(f"{k} tags: expected how many to keep, zero or more")
    return heapq.nsmallest(k, counts, key=lambda tag: (-counts[tag], tag))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that stands twice would be lost silently."""
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise InvalidHistory(f"{shown(key)} stands twice in the JSON: expected each key once")
        document[key] = value
    return document


def _refuse_constant(name: str) -> Any:
    raise InvalidHistory(f"{name} in the JSON: expected a finite number of zero or more")


def _read(document: object) -> Mapping[str, float]:
    expected = f'expected {{"version": {VERSION}, "counts": {{TAG: COUNT, ...}}}}, as TagHistory.to_json writes it'
    if not isinstance(document, dict) or "version" not in document:
        raise InvalidHistory(f"no history: {shown(document)}; {expected}")
    version = document["version"]
    if type(version) is not int or version != VERSION:
        raise InvalidHistory(f"version {shown(version)} of a history; {expected}. Is this altreco-client too old?")
    if document.keys() != {"version", "counts"} or not isinstance(document["counts"], dict):
        raise InvalidHistory(f"no history: {shown(document)}; {expected}")
    counts: dict[str, float] = document["counts"]
    return counts
