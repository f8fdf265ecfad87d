"""The container's probe, and a Triton with the flags that the manifests give it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from altreco_client import TagHistory

from export.__main__ import main
from export.repository import load_release
from export.tree import PROBE_FOLDER as FOLDER
from tests.end_to_end.conftest import Served
from tests.end_to_end.deployed import DEPLOY, Deployed, deploying


@pytest.fixture(scope="module")
def deployed(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deploying(served.repository, tmp_path_factory.mktemp("deployed")) as deployed:
        assert main(["probe", str(deployed.models)]) == 0
        yield deployed


def golden(deployed: Deployed) -> Path:
    return deployed.models / "tag_recommender" / "1" / FOLDER


def probe(deployed: Deployed, kind: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {"PROBE_URL": deployed.server.http_url, "MODELS": str(deployed.models), "RELEASE": "1", **changes}
    return subprocess.run(
        [DEPLOY / "container" / "probe.sh", kind],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("kind", ["live", "ready", "golden"])
def test_a_good_server_passes(deployed: Deployed, kind: str) -> None:
    ended = probe(deployed, kind)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_client_with_a_certificate_is_answered(deployed: Deployed) -> None:
    image = np.zeros((300, 300, 3), dtype=np.uint8)
    with deployed.access().recommender(deployed.server.grpc_url, deadline_s=30) as recommender:
        assert len(recommender.recommend(image, TagHistory({"tag-3": 2}), k=5).tags) == 5


def test_another_release_than_the_pods_is_not_ready(deployed: Deployed) -> None:
    for kind in ("ready", "golden"):
        ended = probe(deployed, kind, RELEASE="2")
        assert ended.returncode != 0
        assert "release 2 of tag_recommender is not ready" in ended.stderr
    assert probe(deployed, "live", RELEASE="2").returncode == 0


def spoilt(deployed: Deployed, folder: Path, name: str, content: bytes) -> str:
    """What MODELS must be for a probe that finds one of the golden files changed."""
    copy = shutil.copytree(golden(deployed), folder / "tag_recommender" / "1" / FOLDER)
    assert (copy / name).read_bytes() != content
    (copy / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize(("by", "taken"), [(0.9e-4, True), (1.5e-4, False)])
def test_an_answer_may_differ_by_what_the_gate_allows(
    deployed: Deployed, tmp_path: Path, by: float, taken: bool
) -> None:
    tags = sorted(golden(deployed).glob("*.tags"))[-1]
    numbers = [float(line) for line in tags.read_text().split()]
    numbers[700] += by
    models = spoilt(deployed, tmp_path, tags.name, "".join(f"{number:.9f}\n" for number in numbers).encode())
    ended = probe(deployed, "golden", MODELS=models)
    assert (ended.returncode == 0) is taken, ended.stderr
    if not taken:
        assert f"golden input {tags.name[:2]}: release 1 answers differently" in ended.stderr


def test_an_answer_of_another_vocabulary_is_not_taken(deployed: Deployed, tmp_path: Path) -> None:
    tags = min(golden(deployed).glob("*.tags"))
    models = spoilt(deployed, tmp_path, tags.name, b"".join(tags.read_bytes().splitlines(keepends=True)[:-1]))
    assert probe(deployed, "golden", MODELS=models).returncode != 0


def test_a_request_that_fails_is_not_taken(deployed: Deployed, tmp_path: Path) -> None:
    request = min(golden(deployed).glob("*.request"))
    models = spoilt(deployed, tmp_path, request.name, request.read_bytes()[:-1])
    assert probe(deployed, "golden", MODELS=models).returncode != 0


def test_a_release_without_golden_requests_is_not_taken(deployed: Deployed, tmp_path: Path) -> None:
    ended = probe(deployed, "golden", MODELS=str(tmp_path))
    assert ended.returncode != 0
    assert "no golden requests" in ended.stderr


def test_nothing_listens(deployed: Deployed) -> None:
    for kind in ("live", "ready", "golden"):
        assert probe(deployed, kind, PROBE_URL="http://127.0.0.1:9").returncode != 0


def test_requests_are_those_of_the_golden_set(deployed: Deployed) -> None:
    _, answered = load_release(deployed.models)
    requests = sorted(golden(deployed).glob("*.request"))
    assert len(requests) == len(answered.inputs.names)
    for i, path in enumerate(requests):
        number, json_bytes = (int(part) for part in path.stem.split("-"))
        assert number == i
        assert (
            path.read_bytes()[json_bytes:] == answered.inputs.image[i].tobytes() + answered.inputs.counts[i].tobytes()
        )


def test_the_allowed_difference_can_be_given(deployed: Deployed, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(deployed.models, models)
    assert main(["probe", str(models), "--allowed", "0.02"]) == 0
    assert (models / "tag_recommender" / "1" / FOLDER / "allowed").read_text() == "0.02\n"


def test_a_repository_without_a_release_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(tmp_path)]) == 1
    assert "error: " in capsys.readouterr().err
