"""Checks of tags, counts and other numbers. Each returns the checked value in its plain form."""

from __future__ import annotations

import math
import operator
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from .errors import InvalidHistory, InvalidRequest
from .text import shown

MAX_TAG_LENGTH = 1_000
"""Most characters in one tag."""

MAX_ID_BYTES = 1_000
"""Most bytes of the id of a user or a picture in UTF-8."""

MAX_SECONDS = 1_000_000
"""Longest deadline or wait, more than eleven days: clocks and gRPC's timers overflow at some larger number."""

_LARGEST = float(np.finfo(np.float32).max)
"""Largest count: counts are sent as float32."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
"""Control characters, line ends, the byte order mark, and surrogates, which UTF-8 cannot encode."""


def checked_tag(tag: object) -> str:
    """Return the tag without surrounding white space, in Unicode form NFC; raises InvalidHistory for an impossible one.

    This is the rule for tags wherever they come from: histories, vocabularies, training data and the command line.
    """
    if not isinstance(tag, str):
        raise _no_str(tag)
    text = tag.strip()
    if not text.isascii() and len(text) <= MAX_TAG_LENGTH:
        text = unicodedata.normalize("NFC", text)
    if not 0 < len(text) <= MAX_TAG_LENGTH or _UNFIT.search(text):
        raise InvalidHistory(
            f"tag {shown(tag)}: expected 1 to {MAX_TAG_LENGTH:,} characters on one line, "
            "without control characters, byte order marks or lone surrogates"
        )
    return text


def checked_mapping(history: object) -> Mapping[Any, Any]:
    """Return the history, whose tags and counts may be anything; raises InvalidHistory if it is no mapping."""
    if not isinstance(history, Mapping):
        raise InvalidHistory(f"history is {shown(history)}: expected a TagHistory, or a mapping of tags to counts")
    return history


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


def checked_id(name: str, value: object) -> str:
    """Return the id of a user or a picture, which is kept as it is; raises InvalidRequest for an impossible one."""
    if isinstance(value, str) and not _UNFIT.search(value) and 0 < len(value.encode()) <= MAX_ID_BYTES:
        return value
    raise InvalidRequest(
        f"{name} {shown(value)}: expected a str of 1 to {MAX_ID_BYTES:,} bytes in UTF-8 on one line, without control "
        "characters"
    )


def checked_whole(
    name: str, value: object, expected: str = "a whole number of 1 or more", *, least: int = 1, most: float = math.inf
) -> int:
    """Return a number in these limits as int; numpy's integers are taken too. Raises InvalidRequest."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and least <= value <= most:
        return operator.index(value)
    raise InvalidRequest(f"{name} is {shown(value)}{_kind(value)}: expected {expected}")


def checked_seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Return seconds above zero as float; with `zero`, also zero and infinity. Raises InvalidRequest."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if number and (0 < value <= MAX_SECONDS or (zero and value in (0, math.inf))):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    expected = f"{'zero or more seconds' if zero else 'seconds above zero'}, at most {MAX_SECONDS:,}"
    raise InvalidRequest(f"{name} is {shown(value)}{'' if number else _kind(value)}: expected {expected}")


def checked_share(name: str, value: object) -> float:
    """Return a share from 0 to 1 as float; raises InvalidRequest."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if number and 0 <= value <= 1:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise InvalidRequest(f"{name} is {shown(value)}{'' if number else _kind(value)}: expected a share from 0 to 1")


def iterate(values: object, name: str, expected: str) -> Iterable[Any]:
    """Return the values. A str is refused: Python would iterate over its letters. Raises InvalidHistory."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidHistory(f"{name}: expected {expected}, got {shown(values)}")
    return values


def check_keywords(caller: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise TypeError for a keyword argument that the caller's function does not have."""
    for name in given:
        if name not in known:
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}: expected {', '.join(known)}")


def _no_str(tag: object) -> InvalidHistory:
    return InvalidHistory(f"tag {shown(tag)}: expected a str, such as 'sea'")


def _kind(value: object) -> str:
    """The type, for a value that looks right and is not."""
    return "" if isinstance(value, int) and not isinstance(value, bool) else f" ({type(value).__name__})"
