"""The container's probe, and a Triton with the flags that the manifests give it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import trustme
import yaml
from altreco_client import TLS, Channel, TagHistory, TagRecommender

from deploy.container.golden_requests import FOLDER, main
from deploy.local import Server, on_free_ports, serve
from export.repository import load_release
from tests.end_to_end.conftest import Served

DEPLOY = Path(__file__).parents[2] / "deploy"
LOCAL = ("model-repository", "model-control-mode", "cache-config", "metrics-address", "grpc-server", "grpc-root")
"""Flags that name the container's own paths and addresses."""


@dataclass(frozen=True)
class Deployed:
    """A Triton with the manifests' flags, over a copy of the release with its golden requests."""

    server: Server
    models: Path
    ca: Path
    certificate: Path
    private_key: Path

    @property
    def golden(self) -> Path:
        return self.models / "tag_recommender" / "1" / FOLDER

    def probe(self, kind: str, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {"PROBE_URL": self.server.http_url, "MODELS": str(self.models), "RELEASE": "1", **changes}
        return subprocess.run(
            [DEPLOY / "container" / "probe.sh", kind],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def manifest_flags() -> list[str]:
    """The base's, but for what the local server decides itself."""
    deployment = yaml.safe_load((DEPLOY / "kubernetes" / "base" / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    flags = [flag.replace("$(ADMIN_KEY)", "a-key") for flag in container["args"]]
    return [flag for flag in flags if not flag.startswith(tuple(f"--{name}" for name in LOCAL))]


@pytest.fixture(scope="module")
def deployed(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("deployed")
    models = folder / "models"
    shutil.copytree(served.repository, models)
    assert main([str(models)]) == 0
    authority = trustme.CA()
    ca, certificate, private_key = (folder / name for name in ("ca.crt", "tls.crt", "tls.key"))
    authority.cert_pem.write_to_path(ca)
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(private_key)
    flags = [
        *manifest_flags(),
        *(f"--grpc-server-cert={certificate}", f"--grpc-server-key={private_key}", f"--grpc-root-cert={ca}"),
    ]
    with serve(on_free_ports(models, strict=True, stop_timeout_s=1, extra_args=tuple(flags))) as server:
        yield Deployed(server, models, ca, certificate, private_key)


@pytest.mark.parametrize("kind", ["live", "ready", "golden"])
def test_a_good_server_passes(deployed: Deployed, kind: str) -> None:
    ended = deployed.probe(kind)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_client_with_a_certificate_is_answered(deployed: Deployed) -> None:
    tls = TLS(root_certificates=deployed.ca, certificate=deployed.certificate, private_key=deployed.private_key)
    image = np.zeros((300, 300, 3), dtype=np.uint8)
    with TagRecommender(deployed.server.grpc_url, deadline_s=30, channel=Channel(tls=tls)) as recommender:
        assert len(recommender.recommend(image, TagHistory({"tag-3": 2}), k=5).tags) == 5


def test_another_release_than_the_pods_is_not_ready(deployed: Deployed) -> None:
    for kind in ("ready", "golden"):
        ended = deployed.probe(kind, RELEASE="2")
        assert ended.returncode != 0
        assert "release 2 of tag_recommender is not ready" in ended.stderr
    assert deployed.probe("live", RELEASE="2").returncode == 0


def spoilt(deployed: Deployed, folder: Path, name: str, content: bytes) -> str:
    """What MODELS must be for a probe that finds one of the golden files changed."""
    probe = folder / "tag_recommender" / "1" / FOLDER
    shutil.copytree(deployed.golden, probe)
    assert (probe / name).read_bytes() != content
    (probe / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize(("by", "taken"), [(0.9e-4, True), (1.5e-4, False)])
def test_an_answer_may_differ_by_what_the_gate_allows(
    deployed: Deployed, tmp_path: Path, by: float, taken: bool
) -> None:
    tags = sorted(deployed.golden.glob("*.tags"))[-1]
    numbers = [float(line) for line in tags.read_text().split()]
    numbers[700] += by
    models = spoilt(deployed, tmp_path, tags.name, "".join(f"{number:.9f}\n" for number in numbers).encode())
    ended = deployed.probe("golden", MODELS=models)
    assert (ended.returncode == 0) is taken, ended.stderr
    if not taken:
        assert f"golden input {tags.name[:2]}: release 1 answers otherwise" in ended.stderr


def test_an_answer_of_another_vocabulary_is_not_taken(deployed: Deployed, tmp_path: Path) -> None:
    tags = min(deployed.golden.glob("*.tags"))
    models = spoilt(deployed, tmp_path, tags.name, b"".join(tags.read_bytes().splitlines(keepends=True)[:-1]))
    assert deployed.probe("golden", MODELS=models).returncode != 0


def test_a_request_that_fails_is_not_taken(deployed: Deployed, tmp_path: Path) -> None:
    request = min(deployed.golden.glob("*.request"))
    models = spoilt(deployed, tmp_path, request.name, request.read_bytes()[:-1])
    assert deployed.probe("golden", MODELS=models).returncode != 0


def test_a_release_without_golden_requests_is_not_taken(deployed: Deployed, tmp_path: Path) -> None:
    ended = deployed.probe("golden", MODELS=str(tmp_path))
    assert ended.returncode != 0
    assert "no golden requests" in ended.stderr


def test_nothing_listens(deployed: Deployed) -> None:
    for kind in ("live", "ready", "golden"):
        assert deployed.probe(kind, PROBE_URL="http://127.0.0.1:9").returncode != 0


def test_requests_are_those_of_the_golden_set(deployed: Deployed) -> None:
    _, golden = load_release(deployed.models)
    requests = sorted(deployed.golden.glob("*.request"))
    assert len(requests) == len(golden.inputs.names)
    for i, path in enumerate(requests):
        number, json_bytes = (int(part) for part in path.stem.split("-"))
        assert number == i
        assert path.read_bytes()[json_bytes:] == golden.inputs.image[i].tobytes() + golden.inputs.history[i].tobytes()


def test_the_allowed_difference_can_be_given(deployed: Deployed, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(deployed.models, models)
    assert main([str(models), "--allowed", "0.02"]) == 0
    assert (models / "tag_recommender" / "1" / FOLDER / "allowed").read_text() == "0.02\n"


def test_a_repository_without_a_release_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "error: " in capsys.readouterr().err
