from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from altreco_client import TagRecommender

from deploy.local import Server, on_free_ports, serve
from export.release import release
from tests.tiny import copy_configs, save_tiny_checkpoint
from training.checkpoint import load_checkpoint
from training.model import ALTReco


@dataclass(frozen=True)
class Served:
    """A real Triton over the committed configs, and the PyTorch model that it must equal."""

    server: Server
    model: ALTReco
    repository: Path


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    repository = copy_configs(folder / "model_repository")
    checkpoint = save_tiny_checkpoint(folder / "tiny.pt")
    release(checkpoint, repository)
    settings = on_free_ports(repository, strict=True, stop_timeout_s=1)
    with serve(settings) as server:
        yield Served(server, load_checkpoint(checkpoint).model, repository)


@pytest.fixture(scope="session")
def recommender(served: Served) -> Iterator[TagRecommender]:
    with TagRecommender(served.server.grpc_url, deadline_s=30) as client:
        yield client
