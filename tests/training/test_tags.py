"""The tags of training data obey the rule of the client: what is learned can be named in a history."""

from pathlib import Path

import pytest

from training.data.manifest import read_vocabulary
from training.errors import DataError


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        (" sky", "number 2, tag ' sky': expected 'sky', without white space"),
        ("cafe\u0301", "number 2, tag .*: expected 'caf\u00e9', .* Unicode form NFC"),
        ("a\tb", "number 2, tag .*: expected 1 to 1,000 characters on one line"),
        ("x" * 1001, "number 2, tag .*: expected 1 to 1,000 characters on one line"),
    ],
)
def test_a_vocabulary_that_no_history_can_name_is_refused(tmp_path: Path, tag: str, message: str) -> None:
    (tmp_path / "vocabulary.txt").write_text(f"sea\n{tag}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_vocabulary(tmp_path / "vocabulary.txt")
