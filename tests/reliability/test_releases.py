"""releases.py, shorter than for the report, and mostly with the tiny model, which is released sooner."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from reliability.releases import corrupt_file, disk_full, prepared, two_at_once
from tests.kept import Kept

pytestmark = pytest.mark.slow
LOAD: dict[str, Any] = {"callers": 1, "every_s": 0.1}
"""Leaves the cores to the commands."""


@pytest.fixture
def folder(kept: Kept, tmp_path: Path) -> Path:
    """As `prepared` leaves it."""
    shutil.copytree(kept.releases(1), tmp_path / "start")
    for seed, name in enumerate(("first.pt", "second.pt"), start=1):
        (tmp_path / name).symlink_to(kept.checkpoint(seed=seed))
    return tmp_path


def test_a_full_disk_refuses_a_release_and_changes_nothing(folder: Path) -> None:
    assert disk_full(folder, left_bytes=(1_000_000,), **LOAD).missed == []


def test_a_corrupt_file_is_named_and_never_rolled_out(folder: Path) -> None:
    assert corrupt_file(folder, **LOAD, components=("classifier",)).missed == []


def test_of_two_releases_at_once_one_wins(tmp_path: Path) -> None:
    """With the study's own start."""
    start = prepared(tmp_path)
    assert prepared(tmp_path) == start
    assert two_at_once(tmp_path, rounds=1, **LOAD).missed == []
