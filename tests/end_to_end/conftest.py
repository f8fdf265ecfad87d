from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from altreco_client import TagRecommender

from deploy.local import Server
from tests.end_to_end.upload_service import SharedService, upload_service
from tests.kept import Kept
from tests.servers import serving
from training.checkpoint import load_checkpoint
from training.model import ALTReco

FOLDER = Path(__file__).parent
ANY_PYTHON = {
    "test_config_variants.py": "Triton reads configurations",
    "test_docs.py": "commands and links of the docs; what the commands do has its own tests",
    "test_installation.py": "the client is installed into Pythons that the test chooses",
    "test_ports.py": "clients in other languages",
    "test_probe.py": "a shell script asks Triton",
    "test_proxy.py": "nginx is asked",
    "test_security.py": "what Triton refuses by its flags",
}
"""What the tests of a file are about that no Python can change. Nor can it change the page in a browser."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them before pytest chooses by marks."""
    for item in items:
        if item.path.parent == FOLDER and (item.path.name in ANY_PYTHON or "page" in getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.any_python)


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


@pytest.fixture(scope="session")
def shared_service(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedService]:
    store = f"sqlite:///{tmp_path_factory.mktemp('upload')}/histories.db"
    with upload_service(served.server.grpc_url, store) as address:
        yield SharedService(address, store)
