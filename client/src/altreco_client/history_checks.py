"""Checks of the tags and counts in a history."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import InvalidHistory

MAX_TAG_LENGTH = 1_000
"""Most characters in one tag."""

_LARGEST = float(np.finfo(np.float32).max)
"""Largest count: counts are sent as float32."""


def checked_count(tag: object, count: object) -> float:
    """Return the count as int or float; raises InvalidHistory if it is not one, or if the tag is not a str."""
    if not isinstance(tag, str):
        raise _no_str(tag)
    if (type(count) is int or type(count) is float) and 0 <= count <= _LARGEST:  # the usual case; False for a NaN
        return count
    if isinstance(count, (int, np.integer)) and not isinstance(count, bool) and 0 <= int(count) <= _LARGEST:
        return int(count)
    if isinstance(count, (float, np.floating)) and 0 <= float(count) <= _LARGEST:
        return float(count)
    raise InvalidHistory(
        f"count of {shown(tag)} is {shown(count)}: expected a finite number of zero or more, at most 3.4e38"
    )


_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters and line ends, which are in no vocabulary, and surrogates, which UTF-8 cannot encode."""


def checked_tag(tag: object) -> str:
    """Return the tag without surrounding white space; raises InvalidHistory for an impossible tag."""
    if not isinstance(tag, str):
        raise _no_str(tag)
    text = tag.strip()
    if not 0 < len(text) <= MAX_TAG_LENGTH or _UNFIT.search(text):
        raise InvalidHistory(
            f"tag {shown(tag)}: expected 1 to {MAX_TAG_LENGTH:,} characters on one line, "
            "without control characters or lone surrogates"
        )
    return text


def _no_str(tag: object) -> InvalidHistory:
    return InvalidHistory(f"tag {shown(tag)}: expected a str, such as 'sea'")


def iterate(values: object, name: str, expected: str) -> Iterable[Any]:
    """Return the values. A str is refused: Python would iterate over its letters. Raises InvalidHistory."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidHistory(f"{name}: expected {expected}, got {shown(values)}")
    return values


class _Short(reprlib.Repr):
    """reprlib's Repr, with a short form for integers that are too long for Python to print."""

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 128 else f"an int of {x.bit_length():,} bits"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 60


def shown(value: object) -> str:
    """A short repr for messages."""
    return _SHORT.repr(value)
