"""Two real Triton servers that load models on demand."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from deploy.local import Server
from tests.deploy.models import write_model
from tests.servers import serving


class Triton:
    """A running server and its repository, for tests that each bring a model of their own."""

    def __init__(self, server: Server, repository: Path):
        self.server = server
        self.repository = repository
        self.client = InferenceServerClient(server.grpc_url)

    def load(
        self, name: str, onnx_model: onnx.ModelProto | bytes | None, text: str, *, file: str = "model.onnx"
    ) -> None:
        write_model(self.repository, name, onnx_model, text, file=file)
        self.client.load_model(name)

    def refusal(self, name: str, onnx_model: onnx.ModelProto | bytes | None, text: str) -> str:
        """Why Triton refuses to load the model; the server must be as well as before."""
        with pytest.raises(InferenceServerException) as caught:
            self.load(name, onnx_model, text)
        assert self.client.is_server_live()
        return caught.value.message()


def _running_triton(folder: Path, *, strict: bool) -> Iterator[Triton]:
    with serving(folder, model_control="explicit", strict=strict) as server:
        triton = Triton(server, folder)
        yield triton
        triton.client.close()


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """Completes configs, as Triton does unless told otherwise."""
    yield from _running_triton(tmp_path_factory.mktemp("repository"), strict=False)


@pytest.fixture(scope="session")
def strict_triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """Takes every config as it is."""
    yield from _running_triton(tmp_path_factory.mktemp("strict_repository"), strict=True)
