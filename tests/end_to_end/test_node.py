"""The caller in TypeScript: the golden vectors, real answers, and servers that are gone, refuse, or change release."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from altreco_client import TagRecommender
from filelock import FileLock
from PIL import Image

from tests.client import odd_server
from tests.client.pictures import detailed, encoded
from tests.end_to_end.conftest import Served
from tests.end_to_end.http_service import jpeg
from tests.end_to_end.printed import ROOT, commands, run
from tests.tools import require

PROTOCOL, SOURCE = ROOT / "client" / "protocol", ROOT / "client" / "examples" / "node"
BUILD = ROOT / "build" / "ports"
"""Kept between runs, because npm downloads 20 MB into it."""
INSTALL, GOLDEN, TAGS = (
    command for command in commands((ROOT / "docs" / "protocol.md").read_text()) if command.startswith("npm ")
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node() -> Path:
    """The folder of the built example, laid out as in the repository."""
    require("node"), require("npm")
    folder = BUILD / "client" / "examples" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "lock"):
        lock = (SOURCE / "package-lock.json").read_bytes()
        installed = folder / "node_modules" / hashlib.sha256(lock).hexdigest()
        shutil.copytree(SOURCE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "build"))
        shutil.copytree(PROTOCOL, BUILD / "client" / "protocol", dirs_exist_ok=True)
        run(INSTALL.partition(" && ")[2] if installed.exists() else INSTALL, folder)
        installed.touch()
    return folder


def ask(node: Path, url: str, history: dict[str, float], photo: Path | None = None) -> list[dict[str, Any]]:
    """The tags that the printed command prints, for a photo of its own unless one is given."""
    if photo is None:
        photo = node / "photo.jpg"
        photo.write_bytes(jpeg())
    command = TAGS.replace("localhost:8001", url).replace("../../../build/demo/data/images/000000.jpg", str(photo))
    answer: list[dict[str, Any]] = json.loads(
        run(command.replace('{"sea": 3}', json.dumps(history)), node).splitlines()[-1]
    )
    return answer


def test_the_port_is_equal_but_for_a_large_jpeg(node: Path) -> None:
    assert run(GOLDEN, node).endswith("\nequal, but for large.jpg\n")


def test_another_picture_is_not_equal(node: Path) -> None:
    thin = BUILD / "client" / "protocol" / "golden" / "thin.png"
    thin.write_bytes((thin.parent / "palette.png").read_bytes())
    try:
        done = subprocess.run(["node", "build/golden.js"], cwd=node, capture_output=True, text=True, check=False)
    finally:
        shutil.copy(PROTOCOL / "golden" / "thin.png", thin)
    assert (done.returncode, done.stdout) == (1, "not equal: thin.png: tensor\n")


def test_node_gets_the_python_clients_answers(
    node: Path, served: Served, recommender: TagRecommender, tmp_path: Path
) -> None:
    exif, photo, history = Image.Exif(), tmp_path / "photo.jpg", {"tag-3": 2, "tag-1000": 0.5}
    for orientation, size in ((2, (300, 400)), (5, (440, 290)), (7, (260, 700))):
        exif[0x0112] = orientation
        photo.write_bytes(encoded(detailed(*size), "JPEG", exif=exif))
        answer = recommender.recommend(photo, history, k=5)
        expected = [{"name": tag.name, "score": tag.score} for tag in answer.tags]
        assert ask(node, served.server.grpc_url, history, photo) == expected


@dataclass
class Failing(odd_server.Odd):
    """Its first inferences fail with these errors; None: with none."""

    tags: tuple[str, ...] = ("sea", "beach", "sky", "dog", "boat")
    errors: Iterator[tuple[grpc.StatusCode, str] | None] = field(kw_only=True)

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        if error := next(self.errors, None):
            self.asked.append((0, 0))
            context.abort(*error)
        return super().ModelInfer(request, context)


GONE = (
    (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    (grpc.StatusCode.CANCELLED, "the server is shutting down"),
    (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'tag_recommender' has no available versions"),
)


def test_a_server_that_is_gone_is_asked_again(node: Path) -> None:
    failing = Failing(errors=iter(GONE))
    with odd_server.serving(failing) as url:
        assert [tag["name"] for tag in ask(node, url, {"sea": 3})] == list(failing.tags)
    assert len(failing.asked) == len(GONE) + 2, "the vocabulary, and the tags"


@pytest.mark.parametrize(
    ("code", "words", "asked"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", 2),
        (grpc.StatusCode.INTERNAL, "onnx runtime error", 2),
        (
            grpc.StatusCode.INVALID_ARGUMENT,
            "unexpected shape",
            3,
        ),  # once more for the vocabulary: the release is the same
    ],
)
def test_what_a_server_refuses_is_an_error_at_once(node: Path, code: grpc.StatusCode, words: str, asked: int) -> None:
    failing = Failing(errors=iter([None, (code, words)]))
    with odd_server.serving(failing) as url, pytest.raises(AssertionError, match=f"error: .*{words}") as failed:
        ask(node, url, {"sea": 3})
    assert "    at " not in str(failed.value), "a stack trace"
    assert len(failing.asked) == asked


@dataclass
class Replaced(odd_server.Odd):
    """Release 1 until its vocabulary was read, then release 2 with `second`."""

    tags: tuple[str, ...] = ("sea", "beach", "sky", "dog", "boat")
    second: tuple[str, ...] = ()
    counts: list[list[float]] = field(default_factory=list)

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return odd_server.metadata(len(self.second if self.counts else self.tags))

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        release, tags = ("2", self.second) if self.counts else ("1", self.tags)
        self.counts.append(np.frombuffer(request.raw_input_contents[1], "<f4").tolist())
        if len(self.counts[-1]) != len(tags):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input 'USER_TAG_COUNTS'")
        k = request.outputs[0].parameters["classification"].int64_param
        answer = odd_server.honest(1, k, tags)
        answer.model_version = release
        return answer


@pytest.mark.parametrize(
    "second",
    [("boat", "sky", "sea", "beach", "dog"), ("boat", "sky", "sea", "beach", "dog", "port")],
    ids=["other places", "one more tag"],
)
def test_a_new_releases_tags_are_learned(node: Path, second: tuple[str, ...]) -> None:
    """The history's counts then go to the places of the new release, and no answer of mixed releases comes back."""
    replaced = Replaced(second=second)
    with odd_server.serving(replaced) as url:
        assert [tag["name"] for tag in ask(node, url, {"sea": 3})] == list(second[:5])
    learned, stale, again, last = replaced.counts
    assert learned == [0] * 5
    assert stale == [3, 0, 0, 0, 0]
    assert again == [0] * len(second)
    assert last == [3 * (tag == "sea") for tag in second]
