"""releases.py, shorter than for the report; all from one prepared repository."""

from pathlib import Path

import pytest

from reliability.releases import corrupt_file, disk_full, prepared, two_at_once

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases")
    prepared(folder)
    return folder


def test_a_full_disk_refuses_a_release_and_changes_nothing(folder: Path) -> None:
    assert disk_full(folder, left_bytes=(100_000,), callers=1).missed == []


def test_a_corrupt_file_is_named_and_never_rolled_out(folder: Path) -> None:
    assert corrupt_file(folder, callers=1).missed == []


def test_of_two_releases_at_once_one_wins(folder: Path) -> None:
    assert two_at_once(folder, rounds=1, callers=1).missed == []
