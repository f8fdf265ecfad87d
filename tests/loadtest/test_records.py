import json
from pathlib import Path

import numpy as np
import pytest

from loadtest.errors import LoadtestError
from loadtest.records import Records, load_records, load_run, merge, save_records, save_settings
from tests.loadtest.make_run import lognormal, make_run


def records(intended_s: list[float], error: list[int], errors: tuple[str, ...]) -> Records:
    n, times = len(intended_s), np.array(intended_s)
    return Records(
        intended_s=times,
        started_s=times + 0.5,
        ended_s=times + 2,
        rows=np.ones(n, np.int16),
        repeat=np.zeros(n, bool),
        cold=np.arange(n) % 2 == 0,
        phase=np.zeros(n, np.int16),
        error=np.array(error, np.int16),
        errors=errors,
    )


def test_merged_records_keep_their_errors_and_are_in_order() -> None:
    merged = merge([records([0, 3], [-1, 1], ("a", "b")), records([1, 2], [0, -1], ("b",))])
    assert merged.intended_s.tolist() == [0, 1, 2, 3]
    assert [merged.errors[i] if i >= 0 else None for i in merged.error] == [None, "b", None, "b"]


def test_latency_counts_from_when_a_request_should_have_left() -> None:
    assert records([1.0], [-1], ()).latency_ms().tolist() == [2000]


def test_files_hold_what_was_saved(tmp_path: Path) -> None:
    for saved in (records([0, 1], [-1, 0], ("too late",)), merge([])):
        save_records(tmp_path / "records.npz", saved)
        loaded = load_records(tmp_path / "records.npz")
        assert len(loaded) == len(saved)
        assert loaded.errors == saved.errors
        assert loaded.where(loaded.cold).cold.all()
        np.testing.assert_array_equal(loaded.error, saved.error)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"text"])
def test_what_are_no_records(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "records.npz").write_bytes(content)
    with pytest.raises(LoadtestError, match=r"records\.npz cannot be read"):
        load_records(tmp_path / "records.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"run\.json is missing: expected a folder"),
        ("{", r"run\.json cannot be read"),
        ("[]", "holds a list, expected a JSON object"),
        ("{}", "has format None: expected 'altreco-loadtest-1'"),
        ('{"format": "altreco-loadtest-1", "url": 1}', r"run\.json: profile is missing"),
    ],
)
def test_what_is_no_run(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(LoadtestError, match=message):
        load_run(tmp_path)


def test_settings_are_read_as_they_were_saved_and_checked_once(tmp_path: Path) -> None:
    settings = make_run(tmp_path, lognormal(10)).settings
    save_settings(tmp_path / "run.json", settings)
    assert load_run(tmp_path).settings == settings
    assert settings.profile.stages[1].name == "second"
    assert settings.generator.cpu_share[0] == (1, 0.35)
    values = json.loads((tmp_path / "run.json").read_text())
    values["profile"]["stages"][0]["duration_s"] = "long"
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(LoadtestError, match=r"profile\.stages\[0\]\.duration_s is 'long', expected a number"):
        load_run(tmp_path)
