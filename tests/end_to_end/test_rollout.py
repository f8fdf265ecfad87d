"""Rollouts on a real Triton in explicit control mode, while clients ask without pause."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from deploy.local import Server
from export.__main__ import main
from export.catalogue import rollback
from export.config import released_version
from export.errors import ConfigError, ExportError, GateError, LoadRefused, ReleaseError, RepositoryBusy, ServerFailure
from export.golden import Inputs, load_golden_set
from export.graph.onnx_files import onnx_recommender
from export.release import Options, release
from export.repository import golden_file, locked, manifest_file, model_files, restore, sha256, versions
from export.rollout import rollout
from export.served import connected, loaded_releases, ready_versions, served_version
from measure.callers import Caller, Calls, calling
from measure.waiting import wait_until
from tests.kept import Kept
from tests.servers import serving

CLIENTS = 4
QUIET = Options(quiet=True)


def silent(step: str) -> None:
    """In place of print."""


@pytest.fixture
def repository(kept: Kept, tmp_path: Path) -> Path:
    """Releases 1, which is pinned, and 2."""
    copy = shutil.copytree(kept.releases(2), tmp_path / "model_repository")
    rollback(copy, 1)
    return copy


def served(repository: Path, model_control: Literal["none", "explicit"] = "explicit") -> AbstractContextManager[Server]:
    flags = ("--load-model=*",) if model_control == "explicit" else ()
    return serving(repository, model_control=model_control, extra_args=flags)


@pytest.fixture
def server(repository: Path) -> Iterator[Server]:
    with served(repository) as server:
        yield server


def damage(repository: Path, version: int, model: str, change: Callable[[Path], None]) -> None:
    """Change a model and give it its new hash: only the server and the golden set can notice."""
    restore(repository, version)
    file = model_files(repository, version)[model]
    change(file)
    path = manifest_file(repository, version)
    manifest = json.loads(path.read_text())
    manifest["files"][str(file.relative_to(repository))] = sha256(file)
    path.write_text(json.dumps(manifest))


def edit(paths: list[Path], old: str, new: str) -> None:
    for path in paths:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@dataclass(frozen=True)
class Answered:
    """The release that answered, and the releases whose answer it was."""

    version: int
    like: frozenset[int]


@contextmanager
def load(server: Server, repository: Path, versions: tuple[int, ...]) -> Iterator[Calls[Answered]]:
    """Clients that ask for golden inputs without pause, and hold each answer against all releases'."""
    golden = {version: load_golden_set(golden_file(repository, version), version=version) for version in versions}
    inputs = next(iter(golden.values())).inputs
    expected = {version: of.tags for version, of in golden.items()}
    assert_nothing_is_like_anything_else(repository, inputs, expected)

    def ask(client: triton.InferenceServerClient, i: int) -> Answered:
        result = infer(client, inputs, i)
        answer = result.as_numpy("TAGS")[0]
        like = {version for version, tags in expected.items() if np.abs(answer - tags[i]).max() < 1e-4}
        return Answered(int(result.get_response().model_version), frozenset(like))

    with ExitStack() as stack:
        clients = [stack.enter_context(triton.InferenceServerClient(server.grpc_url)) for _ in range(CLIENTS)]
        callers = [Caller(partial(ask, client), drawn(len(inputs.names), i)) for i, client in enumerate(clients)]
        with calling(callers, failures=(InferenceServerException,)) as seen:
            wait_until(lambda: len(seen.answered) > 20 * CLIENTS)
            yield seen
            before = len(seen.answered)
            wait_until(lambda: len(seen.answered) > before + 20 * CLIENTS)


def drawn(count: int, seed: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(count))


def answers(seen: Calls[Answered]) -> set[Answered]:
    return {call.answer for call in seen.answered if call.answer}


def infer(client: triton.InferenceServerClient, inputs: Inputs, i: int) -> triton.InferResult:
    image = triton.InferInput("IMAGE", [1, 224, 224, 3], "UINT8")
    image.set_data_from_numpy(inputs.image[i : i + 1])
    counts = triton.InferInput("USER_TAG_COUNTS", [1, inputs.counts.shape[1]], "FP32")
    counts.set_data_from_numpy(inputs.counts[i : i + 1])
    return client.infer("tag_recommender", [image, counts], client_timeout=30)


def assert_nothing_is_like_anything_else(repository: Path, inputs: Inputs, expected: dict[int, NDArray]) -> None:
    """Two releases, and every mix of their models, answer so differently that a mix could not be missed."""
    answers = list(expected.values())
    if len(expected) == 2:
        one, other = (model_files(repository, version) for version in expected)
        for visual in (one, other):
            for preference in (one, other):
                for classifier in (one, other):
                    files = {name: of[name] for name, of in zip(one, (visual, preference, classifier), strict=True)}
                    if files not in (one, other):
                        answers.append(onnx_recommender(files)(inputs.image, inputs.counts))
    history = inputs.counts.any(1)  # without one, the preference encoders differ little
    for a in range(len(answers)):
        for b in range(a):
            assert np.abs(answers[a] - answers[b])[history].max(1).min() > 1e-3


def assert_no_failure_and_no_mix(seen: Calls[Answered]) -> None:
    assert seen.failed == []
    assert len(seen.answered) > 40 * CLIENTS
    assert [answer for answer in answers(seen) if answer.version not in answer.like] == []


def assert_serves_only(server: Server, repository: Path, version: int) -> None:
    assert loaded_releases(server.grpc_url) == {version}
    assert released_version(repository) == version
    with connected(server.grpc_url) as client:
        assert ready_versions(client, "visual_encoder") == {version}
        golden = load_golden_set(golden_file(repository, version), version=version)
        answer = infer(client, golden.inputs, 0)
    assert answer.get_response().model_version == str(version)
    np.testing.assert_allclose(answer.as_numpy("TAGS")[0], golden.tags[0], atol=1e-4)


def test_rollout_and_rollback_under_load(repository: Path, server: Server) -> None:
    with load(server, repository, (1, 2)) as seen:
        forward = rollout(server.grpc_url, repository, to=2, say=silent)
        assert_serves_only(server, repository, 2)
        wait_until(lambda: 2 in {answer.version for answer in answers(seen)})
        back = rollout(server.grpc_url, repository, to=1, say=silent)
        assert_serves_only(server, repository, 1)
    assert_no_failure_and_no_mix(seen)
    assert {answer.version for answer in answers(seen)} == {1, 2}
    # Each was unloaded once and so had been loaded once, beside the other: at the start, and 1 again on the way back.
    unloaded = re.findall(r"successfully unloaded '(\w+_encoder|classifier)' version (\d)", server.log_path.read_text())
    assert sorted(unloaded) == sorted((model, version) for model in model_files(repository, 1) for version in "12")
    assert (forward.old, forward.version, back.old, back.version) == (1, 2, 2, 1)
    assert forward.gate.passed
    assert "release 1 -> release 2" in str(forward)


@pytest.mark.slow
def test_a_release_published_meanwhile_is_rolled_out_from_the_command_line(
    kept: Kept, repository: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    release(kept.checkpoint(seed=2), repository, QUIET)
    with connected(server.grpc_url) as client:
        assert served_version(client) == 1, "publishing alone changes nothing"
    arguments = ["--url", server.grpc_url, "--repository", str(repository)]
    assert main(["rollout", *arguments]) == 0
    assert "release 1 -> release 3" in capsys.readouterr().out
    assert_serves_only(server, repository, 3)
    assert main(["rollout", *arguments]) == 0
    assert "serves release 3 already" in capsys.readouterr().out
    assert main(["verify", *arguments]) == 0


def test_a_release_that_answers_otherwise_is_refused_under_load(repository: Path, server: Server) -> None:
    other = model_files(repository, 1)["classifier"]
    damage(repository, 2, "classifier", lambda file: shutil.copy(other, file))
    with load(server, repository, (1,)) as seen:
        with pytest.raises(
            GateError, match=r"release 2 was not rolled out, release 1 goes on serving and is pinned: .*jpg"
        ):
            rollout(server.grpc_url, repository, to=2, say=silent)
        assert_serves_only(server, repository, 1)
    assert seen.failed == []
    assert answers(seen) == {Answered(1, frozenset({1}))}


def test_a_release_that_does_not_load_is_refused_under_load(kept: Kept, repository: Path, server: Server) -> None:
    rollback(repository, 2)  # as after its publishing
    damage(repository, 2, "classifier", lambda file: file.write_bytes(b"no ONNX"))
    with load(server, repository, (1,)) as seen:
        with pytest.raises(ServerFailure, match=r"release 1 goes on serving and is pinned: .*classifier"):
            rollout(server.grpc_url, repository, say=silent)
        assert_serves_only(server, repository, 1)
    assert seen.failed == []
    assert answers(seen) == {Answered(1, frozenset({1}))}
    with served(repository, "none") as again, connected(again.grpc_url) as client:
        assert served_version(client) == 1, "a server that starts anew is not kept from it by the release"
    assert [version.state for version in versions(repository)] == ["current", "withdrawn"]
    damage(repository, 2, "classifier", lambda file: shutil.copy(model_files(kept.releases(2), 2)["classifier"], file))
    rollout(server.grpc_url, repository, to=2, say=silent)
    assert_serves_only(server, repository, 2)


def test_a_damaged_file_is_found_before_the_server_is_asked(repository: Path, server: Server) -> None:
    model_files(repository, 2)["classifier"].write_bytes(b"no ONNX")
    with pytest.raises(ReleaseError, match=r"classifier/2/model\.onnx is not the file that was published"):
        rollout(server.grpc_url, repository, to=2, say=silent)
    with pytest.raises(ReleaseError, match="has no release 9"):
        rollout(server.grpc_url, repository, to=9, say=silent)
    with locked(repository), pytest.raises(RepositoryBusy):
        rollout(server.grpc_url, repository, to=2, say=silent)
    assert released_version(repository) == 1


@pytest.mark.slow
def test_what_would_end_the_old_release_is_refused_before_it_does(
    repository: Path, server: Server, tmp_path: Path
) -> None:
    rollback(repository, 2)
    rollout(server.grpc_url, repository, to=1, say=silent)
    with load(server, repository, (1,)) as seen:
        gone = model_files(repository, 1)["classifier"].rename(tmp_path / "model.onnx")
        with pytest.raises(ReleaseError, match=r"release 1 serves, but .*classifier/1/model\.onnx is gone"):
            rollout(server.grpc_url, repository, to=2, say=silent)
        gone.rename(model_files(repository, 1)["classifier"])

        configs = [repository / model / "config.pbtxt" for model in model_files(repository, 1)]
        edit(configs, "max_batch_size: 32", "max_batch_size: 64")
        with pytest.raises(ConfigError, match=r"server runs with, max_batch_size 32 .* found max_batch_size 64"):
            rollout(server.grpc_url, repository, to=2, say=silent)
        edit(configs, "max_batch_size: 64", "max_batch_size: 32")

        partial = repository / "tag_recommender" / ".config.pbtxt.partial"
        partial.mkdir()  # in the way of the new pin
        with pytest.raises(ExportError, match=r"release 1 goes on serving and is pinned: .*\.config\.pbtxt\.partial"):
            rollout(server.grpc_url, repository, to=2, say=silent)
        partial.rmdir()

        elsewhere = shutil.copytree(repository, tmp_path / "elsewhere")
        for folder in repository.glob("*/2"):
            folder.rename(tmp_path / f"{folder.parent.name}-2")
        with pytest.raises(ServerFailure, match="no version 2 of visual_encoder: does it read the same repository"):
            rollout(server.grpc_url, elsewhere, to=2, say=silent)
        assert [version.state for version in versions(elsewhere)] == ["current", "ready"], "the release is not to blame"
        assert_serves_only(server, repository, 1)
    assert seen.failed == []
    assert answers(seen) == {Answered(1, frozenset({1}))}


def test_an_older_release_that_does_not_load_stays_in_the_repository(repository: Path, server: Server) -> None:
    rollout(server.grpc_url, repository, to=2, say=silent)
    damage(repository, 1, "classifier", lambda file: file.write_bytes(b"no ONNX"))
    with pytest.raises(LoadRefused, match="release 2 goes on serving and is pinned"):
        rollout(server.grpc_url, repository, to=1, say=silent)
    assert_serves_only(server, repository, 2)
    assert [version.state for version in versions(repository)] == ["ready", "current"]


def test_a_server_that_dies_after_the_switch_serves_the_new_release_next(repository: Path) -> None:
    with served(repository) as server:

        def kill(name: str) -> None:
            if name.startswith("wait"):
                os.kill(server.pid, signal.SIGKILL)

        with pytest.raises(ServerFailure, match="release 2 serves and is pinned, but the others are not unloaded"):
            rollout(server.grpc_url, repository, to=2, say=kill)
    assert released_version(repository) == 2


@pytest.mark.slow
@pytest.mark.parametrize("step", ["load preference_encoder", "golden set on the new models", "switch"])
def test_a_server_that_dies_half_way(repository: Path, step: str) -> None:
    rollback(repository, 2)
    with served(repository) as server:
        rollout(server.grpc_url, repository, to=1, say=silent)

        def kill(name: str) -> None:
            if name.startswith(step):
                os.kill(server.pid, signal.SIGKILL)

        with pytest.raises(ServerFailure, match=r"release 2 was not rolled out: .* release 1 is pinned again, restart"):
            rollout(server.grpc_url, repository, to=2, say=kill)
    assert released_version(repository) == 1
    with served(repository) as again, connected(again.grpc_url) as client:
        assert served_version(client) == 1


def test_a_server_that_may_not_be_controlled(repository: Path) -> None:
    with served(repository, "none") as server:
        with pytest.raises(ServerFailure, match="--model-control-mode=explicit"):
            rollout(server.grpc_url, repository, to=2, say=silent)
        with connected(server.grpc_url) as client:
            assert served_version(client) == 1
    assert released_version(repository) == 1


@pytest.mark.slow
def test_a_server_that_serves_nothing_yet(repository: Path) -> None:
    with serving(repository, strict=False, model_control="explicit") as server:
        assert rollout(server.grpc_url, repository, to=2, say=silent).old is None
        assert_serves_only(server, repository, 2)
