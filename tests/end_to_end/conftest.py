from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from altreco_client import TagRecommender

from deploy.local import Server
from tests.kept import Kept
from tests.servers import serving
from training.checkpoint import load_checkpoint
from training.model import ALTReco


@dataclass(frozen=True)
class Served:
    """A real Triton over the committed configs, and the PyTorch model that it must equal."""

    server: Server
    model: ALTReco
    repository: Path


@pytest.fixture(scope="session")
def served(kept: Kept) -> Iterator[Served]:
    repository = kept.releases(1)
    with serving(repository) as server:
        yield Served(server, load_checkpoint(kept.checkpoint()).model, repository)


@pytest.fixture(scope="session")
def recommender(served: Served) -> Iterator[TagRecommender]:
    with TagRecommender(served.server.grpc_url, deadline_s=30) as client:
        yield client
