import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from altreco_client import TagHistory
from PIL import Image

from tests.end_to_end.conftest import Served

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(served: Served) -> Run:
    def run(*arguments: str, url: str = served.server.grpc_url) -> subprocess.CompletedProcess[str]:
        server = [] if arguments[0] == "history" else ["--url", url]
        command = [sys.executable, "-m", "altreco_client", *arguments, *server]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.fromarray(np.full((300, 400, 3), 90, dtype=np.uint8)).save(path)
    return path


def test_recommend_prints_tags_best_first(run: Run, photo: Path) -> None:
    done = run("recommend", str(photo), "--history", "tag-3:3,tag-5:1", "-k", "4")
    assert done.returncode == 0, done.stderr
    scores = [float(line.split()[0]) for line in done.stdout.splitlines()]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)


def test_recommend_with_a_kept_history_as_json(run: Run, photo: Path, tmp_path: Path) -> None:
    history = tmp_path / "user.json"
    assert run("history", "add", str(history), "tag-3", "zeppelin").returncode == 0
    assert TagHistory.from_json(history.read_text()) == {"tag-3": 1, "zeppelin": 1}
    done = run("recommend", str(photo), str(photo), "--history", str(history), "--json", "--request-id", "r1")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == second
    assert (first["image"], first["model_version"], first["request_id"]) == (str(photo), "1", "r1")
    assert first["unknown_tags"] == ["zeppelin"]
    assert first["fallback"] is None
    assert [tag["score"] for tag in first["tags"]] == sorted((tag["score"] for tag in first["tags"]), reverse=True)


def test_recommend_falls_back_and_says_so(run: Run, photo: Path) -> None:
    done = run("recommend", str(photo), "--history", "sea:3,sky", "--fallback", "history", url="127.0.0.1:1")
    assert (done.returncode, done.stdout) == (0, "1.000  sea\n0.333  sky\n")
    assert "warning: these are the user's own tags, not the model's: 127.0.0.1:1 does not answer" in done.stderr
    assert done.stderr.count("does not answer") == 1, "the client's log does not say it again"


def test_vocabulary(run: Run) -> None:
    assert run("vocabulary").stdout.splitlines() == [f"tag-{i}" for i in range(1540)]
    assert len(json.loads(run("vocabulary", "--json").stdout)["tags"]) == 1540


def test_doctor_looks_at_everything(run: Run, photo: Path) -> None:
    done = run("doctor", str(photo), "--json")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert report["ok"]
    checks = {check["name"]: check for check in report["checks"]}
    models = ("visual_encoder", "preference_encoder", "classifier")
    for name in ("server", "release", "vocabulary", "prepare", "counts", *models, "new picture", "repeat picture"):
        assert checks[name]["ok"]
        assert checks[name]["ms"] > 0
    assert "2.51.0" in checks["server"]["detail"]
    assert "1540 tags" in checks["vocabulary"]["detail"]
    assert all(line.startswith("ok ") for line in run("doctor").stdout.splitlines())


def test_doctor_without_a_server_names_what_failed(run: Run) -> None:
    done = run("doctor", url="127.0.0.1:1")
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL  server")
    assert "is Triton running" in done.stdout
    assert json.loads(run("doctor", "--json", url="127.0.0.1:1").stdout)["ok"] is False


def test_what_is_wrong_is_one_line_on_stderr(run: Run, photo: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:300])
    for arguments, message in (
        (("recommend", str(broken)), "cannot read an image"),
        (("recommend", str(photo), "--history", "tag-3:x"), "expected TAG:COUNT"),
        (("recommend", str(photo), "--history", "nope:1"), "not among the server's 1540 tags"),
        (("recommend", str(photo), "--header", "key"), "expected NAME=VALUE"),
        (("recommend", str(photo), "--ca", "/nowhere/ca.pem"), "cannot read /nowhere/ca.pem"),
        (("history", "show", str(tmp_path / "none.json")), "no history at"),
    ):
        failed = run(*arguments)
        assert failed.returncode == 1
        assert failed.stderr.startswith("error: ")
        assert failed.stderr.count("\n") == 1
        assert message in failed.stderr
