import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.local import Server
from export.__main__ import main
from export.catalogue import diff_releases, list_releases, prune, rollback
from export.config import released_version
from export.errors import ConfigError, GateError, GoldenSetError, ReleaseError, ServerFailure
from export.golden import GoldenSet, Inputs, load_golden_set, replay, save_golden_set
from export.manifest import read_manifest
from export.release import Options, release
from export.repository import golden_file, manifest_file, model_files, versions
from export.signature import sign
from export.verify import verify, verify_served
from tests.kept import Kept
from tests.keys import make_keys
from tests.servers import serving
from tests.tiny import REPOSITORY, copy_configs


@pytest.fixture(scope="module")
def three(kept: Kept) -> Path:
    """A repository with releases 1 to 3, the last one pinned. Tests that change it copy it."""
    return kept.releases(3)


@pytest.fixture
def repository(tmp_path: Path, three: Path) -> Path:
    return shutil.copytree(three, tmp_path / "model_repository")


def states(repository: Path) -> dict[int, str]:
    return {version.number: version.state for version in versions(repository)}


def test_list_has_a_line_a_release(repository: Path, tmp_path: Path) -> None:
    (repository / "visual_encoder" / "9").mkdir()  # somebody's own
    lines = list_releases(repository).splitlines()
    assert [line.split()[0] for line in lines] == ["release", "1", "2", "3", "9"]
    assert [line.split()[-1] for line in lines[1:]] == ["ready", "ready", "current", "foreign"]
    assert read_manifest(manifest_file(repository, 1)).checkpoint_sha256[:12] in lines[1]
    assert "no release yet" in list_releases(copy_configs(tmp_path / "new"))


def test_show_prints_the_manifest_as_text_and_as_json(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "1", "--repository", str(repository)]) == 0
    assert "ready: can be rolled back to" in capsys.readouterr().out
    assert main(["show", "--json", "--repository", str(repository)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(manifest_file(repository, 3).read_text())
    assert main(["show", "8", "--repository", str(repository)]) == 1
    assert capsys.readouterr().err == f"error: {repository} has no release 8; its releases: 1, 2, 3\n"


def test_diff_names_what_differs_and_how_far_the_answers_are_apart(repository: Path) -> None:
    text = diff_releases(repository, 1, 2)
    for name in ("checkpoint_sha256", "visual_encoder/model.onnx", "answers to 15 golden inputs"):
        assert name in text
    assert "vocabulary_sha256" not in text, "it is the same"
    same = diff_releases(repository, 1, 1)
    assert "max abs difference 0" in same
    assert len(same.splitlines()) == 3


def test_rollback_and_back_again(repository: Path) -> None:
    assert "pins release 1 now" in rollback(repository, 1)
    assert states(repository) == {1: "current", 2: "ready", 3: "ready"}
    assert "pins release 1 already" in rollback(repository, 1)
    rollback(repository, 3)
    assert released_version(repository) == 3


def test_rollback_refuses_what_is_not_whole(repository: Path) -> None:
    model = model_files(repository, 1)["classifier"]
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(
        ReleaseError, match=r"classifier/1/model\.onnx is not the file that was published: expected SHA"
    ):
        rollback(repository, 1)
    model.unlink()
    assert list_releases(repository).splitlines()[1].endswith("  incomplete, without classifier/1/model.onnx")
    with pytest.raises(ReleaseError, match=r"release 1 is incomplete, without classifier/1/model\.onnx: .*deleted"):
        rollback(repository, 1)
    with pytest.raises(ReleaseError, match="has no release 7; its releases: 1, 2, 3"):
        rollback(repository, 7)
    assert released_version(repository) == 3
    golden_file(repository, 3).unlink()
    assert list_releases(repository).splitlines()[3].endswith("  current, without tag_recommender/3/golden.npz")


def test_a_release_of_another_contract_is_shown_and_not_served(kept: Kept, repository: Path) -> None:
    path = manifest_file(repository, 1)
    manifest = json.loads(path.read_text())
    assert manifest.pop("contract") == 2
    path.write_text(json.dumps(manifest))  # as contract 1 wrote it
    assert read_manifest(path).contract == 1
    before = states(repository)
    for serve_it in (lambda: rollback(repository, 1), lambda: verify(repository, 1)):
        with pytest.raises(ReleaseError, match="release 1 speaks contract 1, expected contract 2: release its check"):
            serve_it()
    with pytest.raises(ReleaseError, match=r"older contract than 2: 1\. .*make one with `python -m export init"):
        release(kept.checkpoint(), repository, Options(quiet=True))
    assert states(repository) == before


def test_prune_keeps_the_newest_and_whatever_is_in_use(repository: Path) -> None:
    rollback(repository, 1)
    assert prune(repository, 1, frozenset({2})) == "removed: none; kept: 1, 2, 3"
    assert prune(repository, 1) == "removed: 2; kept: 1, 3"
    assert states(repository) == {1: "current", 2: "pruned", 3: "ready"}
    assert not (repository / "visual_encoder" / "2").exists()
    assert not golden_file(repository, 2).exists()
    assert "2  " in list_releases(repository), "the record stays"
    with pytest.raises(ReleaseError, match="release 2 is pruned: only its manifest is left"):
        rollback(repository, 2)
    with pytest.raises(ReleaseError, match="keep is 0: expected at least 1"):
        prune(repository, 0)


def test_prune_says_when_no_release_is_left_to_roll_back_to(repository: Path) -> None:
    assert prune(repository, 1).splitlines() == [
        "removed: 1, 2; kept: 3",
        "no release is left to roll back to: `prune --keep 2` would have kept 2",
    ]


@pytest.mark.slow
def test_a_number_is_never_used_twice(kept: Kept, repository: Path) -> None:
    rollback(repository, 1)
    prune(repository, 1)
    shutil.rmtree(repository / "visual_encoder" / "3")
    published = release(kept.checkpoint(seed=1), repository, Options(quiet=True))
    assert published.manifest.version == 4


def test_verify_finds_what_was_changed(repository: Path) -> None:
    assert verify(repository).passed
    assert verify(repository, 1).measured == 0
    config = repository / "classifier" / "config.pbtxt"
    committed = config.read_text()
    config.write_text(committed.replace("dims: [ 128 ]", "dims: [ 64 ]"))
    with pytest.raises(ConfigError, match=r"classifier/config\.pbtxt.*128.*64"):
        verify(repository)
    config.write_text(committed)
    (repository / "classifier" / "tags.txt").write_text("sea\n" * 1540)
    with pytest.raises(ReleaseError, match=r"tags\.txt is not the file that was published"):
        verify(repository)


def test_no_release_in_fp32_is_published_or_verified_for_tensorrt(
    repository: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "classifier" / "configs").mkdir()
    shutil.copy(REPOSITORY / "classifier" / "configs" / "tensorrt.pbtxt", repository / "classifier" / "configs")
    for command in (["verify"], ["release", str(checkpoint)]):
        assert main([*command, "--variant", "tensorrt", "--repository", str(repository)]) == 1
        assert "tensorrt.pbtxt: expected an fp16 release, found fp32" in capsys.readouterr().err
    assert list(states(repository)) == [1, 2, 3]


def test_a_golden_set_of_another_release(repository: Path) -> None:
    shutil.copy(golden_file(repository, 1), golden_file(repository, 3))
    with pytest.raises(GoldenSetError, match="belongs to release 1, expected release 3's"):
        verify(repository)
    golden_file(repository, 3).write_bytes(b"PK\x03\x04 but no archive")
    with pytest.raises(GoldenSetError, match="not a readable golden set"):
        verify(repository)
    golden_file(repository, 3).unlink()
    with pytest.raises(GoldenSetError, match="no golden set at"):
        verify(repository)


def test_replay_says_which_input_and_in_what_batch(tmp_path: Path) -> None:
    inputs = Inputs(
        names=tuple("abcdefghij"),
        image=np.zeros((10, 224, 224, 3), dtype=np.uint8),
        counts=np.arange(10, dtype=np.float32)[:, None],
    )
    golden = GoldenSet(version=5, inputs=inputs, tags=inputs.counts / 10)
    save_golden_set(tmp_path / "golden.npz", golden)
    golden = load_golden_set(tmp_path / "golden.npz", version=5)
    assert replay(golden.inputs, golden.tags, lambda image, counts: counts / 10).value == 0

    def wrong_in_batches(image: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return np.where((counts == 4) & (len(image) > 1), np.nan, counts / 10)

    found = replay(golden.inputs, golden.tags, wrong_in_batches)
    assert (found.value, found.where) == (np.inf, "at e, in a batch of 3")
    assert replay(golden.inputs, golden.tags, wrong_in_batches, max_batch=1).value == 0


@pytest.fixture(scope="module")
def server(three: Path) -> Iterator[Server]:
    with serving(three) as server:
        yield server


def test_verify_a_running_server(three: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--repository", str(three), "--url", server.grpc_url]) == 0
    assert capsys.readouterr().out.startswith("ok  ONNX Runtime to served ensemble: ")


def test_verify_a_running_server_and_the_signature(
    repository: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = make_keys(tmp_path / "keys")
    command = ["verify", "--repository", str(repository), "--url", server.grpc_url, "--public-key", str(keys.public)]
    assert main(command) == 1
    assert "is not signed" in capsys.readouterr().err
    sign(repository, keys.private)
    assert main(command) == 0
    assert [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "ok  ONNX files to golden set",
        "ok  ONNX Runtime to served ensemble",
    ]


def test_verify_a_server_that_serves_another_release(repository: Path, server: Server) -> None:
    rollback(repository, 1)
    with pytest.raises(GoldenSetError, match="serves release 3, the golden set is release 1's: roll out, or verify"):
        verify_served(repository, server.grpc_url)


def test_verify_a_server_that_answers_otherwise(repository: Path, server: Server) -> None:
    golden = load_golden_set(golden_file(repository, 3), version=3)
    golden.tags[2, 7] += 0.01
    golden_file(repository, 3).unlink()
    save_golden_set(golden_file(repository, 3), golden)
    with pytest.raises(GateError, match=rf"0\.01, at most 0\.0001 is allowed \(at {golden.inputs.names[2]}, alone\)"):
        verify_served(repository, server.grpc_url)


def test_verify_nobody(repository: Path) -> None:
    with pytest.raises(ServerFailure, match="is Triton running, is this its gRPC port"):
        verify_served(repository, "127.0.0.1:9")
    with pytest.raises(ServerFailure, match="expected host:port"):
        verify_served(repository, "http://localhost:8000")


def test_a_wait_for_old_requests_without_an_end_is_refused(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["rollout", "--url", "127.0.0.1:9", "--drain-timeout-s", "nan", "--repository", str(repository)]
    assert main(command) == 1
    assert "drain_timeout_s is nan: expected zero or more seconds" in capsys.readouterr().err


def test_prune_keeps_what_a_server_has_loaded(
    repository: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", "--keep", "1", "--url", server.grpc_url, "--repository", str(repository)]) == 0
    assert capsys.readouterr().out == "removed: none; kept: 1, 2, 3\n"
