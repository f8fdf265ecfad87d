from pathlib import Path

import pytest

from export.release import Options, release
from tests.tiny import copy_configs, save_tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.pt")


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A repository with release 1. Tests that change it copy it."""
    repository = copy_configs(tmp_path_factory.mktemp("released") / "model_repository")
    assert release(checkpoint, repository, Options(quiet=True)).manifest.version == 1
    return repository
