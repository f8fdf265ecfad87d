from pathlib import Path

import pytest

from export.release import Options, release
from tests.end_to_end.faults import SlowModel, slow_repository
from tests.tiny import copy_configs, save_tiny_checkpoint


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the tiny model. Scenarios that change a repository copy it."""
    folder = tmp_path_factory.mktemp("reliability")
    repository = copy_configs(folder / "model_repository")
    release(save_tiny_checkpoint(folder / "tiny.pt"), repository, Options(quiet=True))
    return repository


@pytest.fixture(scope="session")
def slow(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> SlowModel:
    """With a visual encoder whose capacity does not depend on the machine: 32 pictures in each time that it takes."""
    return slow_repository(repository, tmp_path_factory.mktemp("slow") / "model_repository")
