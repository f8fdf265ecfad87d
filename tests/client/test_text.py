import doctest
import sys

import pytest
from altreco_client.text import LONGEST_MESSAGE, message, printable, printable_lines


def test_the_example_is_true() -> None:
    result = doctest.testmod(sys.modules[printable.__module__])
    assert (result.attempted, result.failed) == (1, 0)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("caf\u00e9 \U0001f3d6 \u6d77 a\u00a0b \u200d", None),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("a\r\nerror: b\tc", r"a\r\nerror: b\tc"),
        ("\x00\x7f\x85\x9b", r"\x00\x7f\x85\x9b"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("\u202egpj.exe\u202c\u2066", r"\u202egpj.exe\u202c\u2066"),
        ("\ud800", r"\ud800"),
    ],
)
def test_only_what_could_harm_is_escaped(text: str, safe: str | None) -> None:
    assert printable(text) == (text if safe is None else safe)
    assert printable(printable(text)) == printable(text)
    assert printable_lines(f"{text}\nsea").split("\n")[-1] == "sea"
    assert printable_lines(text).replace("\n", r"\n") == printable(text)


@pytest.mark.parametrize("text", ["x" * 10_000_000, "\x1b" * 1000, "a" * 999 + "\n"])
def test_a_message_is_short_and_keeps_both_ends(text: str) -> None:
    short = message(f"start {text} end")
    assert len(short) <= LONGEST_MESSAGE
    assert short.startswith("start ")
    assert short.endswith(" end")
    assert message(short) == short
    assert "\n" not in short


def test_a_short_message_is_whole() -> None:
    assert message("x" * LONGEST_MESSAGE) == "x" * LONGEST_MESSAGE
