"""Which files are read for the tests of a tier, and what is compiled once for all of them."""

import os
import subprocess
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


def test_what_make_runs_keeps_what_it_compiles() -> None:
    done = subprocess.run(
        ["make", "--eval", "shown: ; @env", "shown"],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PYTHONUNBUFFERED=1\n" in done.stdout
    assert "PYTHONDONTWRITEBYTECODE" not in done.stdout
