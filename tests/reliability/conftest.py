from pathlib import Path

import pytest

from reliability.slow_model import SlowModel, slow_repository
from tests.kept import Kept


@pytest.fixture(scope="session")
def repository(kept: Kept) -> Path:
    """A release of the tiny model. Scenarios that change a repository copy it."""
    return kept.releases(1)


@pytest.fixture(scope="session")
def slow(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> SlowModel:
    """With a visual encoder whose capacity does not depend on the machine: a batch in each time that it takes."""
    return slow_repository(repository, tmp_path_factory.mktemp("slow") / "model_repository")
