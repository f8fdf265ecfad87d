"""Databases for histories."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.histories.postgres import Postgres, serving


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with serving() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/histories.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()
