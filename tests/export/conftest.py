from pathlib import Path

import pytest

from tests.kept import Kept


@pytest.fixture(scope="session")
def checkpoint(kept: Kept) -> Path:
    return kept.checkpoint()


@pytest.fixture(scope="session")
def other(kept: Kept) -> Path:
    """A checkpoint with other weights."""
    return kept.checkpoint(seed=1)


@pytest.fixture(scope="session")
def released(kept: Kept) -> Path:
    """A repository with release 1. Tests that change it copy it."""
    return kept.releases(1)


@pytest.fixture(scope="session")
def two(kept: Kept) -> Path:
    """A repository with releases 1 and 2, which is pinned. Tests that change it copy it."""
    return kept.releases(2)
