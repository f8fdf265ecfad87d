"""Text from outside, made fit for messages, terminals and logs."""

from __future__ import annotations

import re
import reprlib

LONGEST_MESSAGE = 1_000
"""Most characters of an error message: a server or a file may have sent any number."""

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, marks that reverse the text after them, and surrogates, which UTF-8 cannot encode."""


def printable(text: str) -> str:
    r"""Escape whatever could forge a line, move a cursor or break an encoding.

    >>> print(printable("sea\x1b[2K\nerror: none"))
    sea\x1b[2K\nerror: none
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def printable_lines(text: str) -> str:
    """Return text of several lines with each line `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def message(text: str) -> str:
    """Return `printable` text, without its middle if it is too long."""
    half = LONGEST_MESSAGE // 2 - 10
    short = text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} ... {text[-half:]}"
    escaped = printable(short)
    return escaped if len(escaped) <= LONGEST_MESSAGE else f"{escaped[:half]} ... {escaped[-half:]}"


class _Short(reprlib.Repr):
    """reprlib's Repr, with a short form for integers that are too long for Python to print."""

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 128 else f"an int of {x.bit_length():,} bits"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 60


def shown(value: object) -> str:
    """A short repr for messages."""
    return _SHORT.repr(value)
