"""Which files are read for the tests of a tier."""

from pathlib import Path

import pytest

from tests.conftest import lacks_a_mark

SLOW, CLOCK = "@pytest.mark.slow\n", "@pytest.mark.timing\n"


@pytest.mark.parametrize(
    ("expression", "read"),
    [
        ("", {"", SLOW, CLOCK, SLOW + CLOCK}),
        ("not slow and not timing", {"", SLOW, CLOCK, SLOW + CLOCK}),  # other tests of the file may have no mark
        ("not slow and timing", {CLOCK, SLOW + CLOCK}),
        ("slow and not timing", {SLOW, SLOW + CLOCK}),
        ("slow and timing", {SLOW + CLOCK}),
        ("slow or timing", {"", SLOW, CLOCK, SLOW + CLOCK}),
    ],
)
def test_a_file_is_read_that_may_have_a_test(expression: str, read: set[str]) -> None:
    assert {text for text in ("", SLOW, CLOCK, SLOW + CLOCK) if not lacks_a_mark(text, expression)} == read


def test_marks_stand_in_the_files_of_the_tests() -> None:
    helpers = [path for path in Path(__file__).parent.rglob("*.py") if not path.name.startswith("test_")]
    assert helpers
    assert [path for path in helpers if "mark.slow" in path.read_text() or "mark.timing" in path.read_text()] == []
