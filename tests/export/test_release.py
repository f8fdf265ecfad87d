import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export import parity
from export.config import ensemble_config, read_config, released_version
from export.errors import ConfigError, ParityError, VocabularyError
from export.onnx_model import metadata_of
from export.release import release
from tests.tiny import REPOSITORY, copy_configs, save_tiny_checkpoint
from training.checkpoint import load_checkpoint
from training.errors import CheckpointError

COMPONENTS = ("visual_encoder", "preference_encoder", "classifier")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.pt")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A repository with release 1. Tests that change it copy it."""
    repository = copy_configs(tmp_path_factory.mktemp("released") / "model_repository")
    assert release(checkpoint, repository).version == 1
    return repository


@pytest.fixture
def repository(tmp_path: Path, released: Path) -> Path:
    return shutil.copytree(released, tmp_path / "model_repository")


def tree(repository: Path) -> dict[str, bytes]:
    return {str(p.relative_to(repository)): p.read_bytes() for p in repository.rglob("*") if p.is_file()}


def edit(repository: Path, model: str, old: str, new: str) -> None:
    path = repository / model / "config.pbtxt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_first_release_is_whole_and_leaves_the_committed_configs_as_they_are(released: Path) -> None:
    assert released_version(released) == 1
    for model in COMPONENTS:
        assert (released / model / "1" / "model.onnx").stat().st_size > 0
        assert metadata_of(released / model / "1" / "model.onnx")["version"] == "1"
    for model in (*COMPONENTS, "tag_recommender"):
        name = f"{model}/config.pbtxt"
        assert (released / name).read_text() == (REPOSITORY / name).read_text()
    assert (released / "classifier" / "tags.txt").read_text().split("\n")[:2] == ["tag-0", "tag-1"]
    assert not list(released.rglob("*.partial"))


def test_the_same_checkpoint_again_changes_nothing(repository: Path, checkpoint: Path) -> None:
    before = tree(repository)
    again = release(checkpoint, repository)
    assert (again.version, again.max_abs_difference) == (1, None)
    assert str(again) == f"{repository} serves this checkpoint already, as release 1"
    assert tree(repository) == before


def test_next_release_pins_its_own_versions_and_keeps_the_old(repository: Path, tmp_path: Path) -> None:
    published = release(save_tiny_checkpoint(tmp_path / "other.pt", seed=1), repository)
    assert published.version == 2
    assert published.max_abs_difference is not None
    assert published.max_abs_difference < 1e-4
    assert str(published).splitlines()[-1] == f"published release 2 in {repository}"
    ensemble = read_config(repository, "tag_recommender")
    assert [step.model_version for step in ensemble.ensemble_scheduling.step] == [2, 2, 2]
    assert list(ensemble.version_policy.specific.versions) == [2]
    assert (repository / "visual_encoder" / "1" / "model.onnx").exists()


def test_another_vocabulary_is_refused(repository: Path, tmp_path: Path) -> None:
    (repository / "classifier" / "tags.txt").write_text("other\n" * 1540)
    before = tree(repository)
    with pytest.raises(VocabularyError, match=r"tags\.txt holds another vocabulary"):
        release(save_tiny_checkpoint(tmp_path / "other.pt", seed=1), repository)
    assert tree(repository) == before


def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    repository = copy_configs(tmp_path / "model_repository")
    before = tree(repository)
    with pytest.raises(
        ConfigError, match=r"preference_encoder/config\.pbtxt: input USER_HISTORY dims: expected \[60\].*found \[1540\]"
    ):
        release(save_tiny_checkpoint(tmp_path / "small.pt", tags=60), repository)
    assert tree(repository) == before


@pytest.mark.parametrize(
    ("model", "old", "new", "message"),
    [
        (
            "visual_encoder",
            "TYPE_UINT8 dims",
            "TYPE_FP32 dims",
            r"visual_encoder/config\.pbtxt: input: expected .*UINT8",
        ),
        (
            "visual_encoder",
            "[ 64, 7, 7 ]",
            "[ 64, 14, 14 ]",
            r"output: expected .*\[64, 7, 7\].*found .*\[64, 14, 14\]",
        ),
        ("visual_encoder", "max_batch_size: 32", "max_batch_size: 0", "dynamic batch: expected True, found False"),
        ("classifier", '"USER_PREFERENCE"', '"PREFERENCE"', "input: expected .*USER_PREFERENCE"),
        (
            "classifier",
            "max_batch_size: 32",
            "max_batch: 32",
            "classifier/config.pbtxt is no valid model configuration",
        ),
        ("classifier", ' label_filename: "tags.txt"', "", "label_filename: expected 'tags.txt'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_and_nothing_is_published(
    tmp_path: Path, checkpoint: Path, model: str, old: str, new: str, message: str
) -> None:
    repository = copy_configs(tmp_path / "model_repository")
    edit(repository, model, old, new)
    before = tree(repository)
    with pytest.raises((ConfigError, VocabularyError), match=message):
        release(checkpoint, repository)
    assert tree(repository) == before


def test_a_difference_over_the_tolerance_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "TOLERANCE", 0.0)
    before = tree(repository)
    with pytest.raises(ParityError, match=r"differ from the PyTorch model by .* at batch 1"):
        release(save_tiny_checkpoint(tmp_path / "other.pt", seed=1), repository)
    assert tree(repository) == before


def test_parity_tells_other_weights_apart(released: Path, tmp_path: Path) -> None:
    other = load_checkpoint(save_tiny_checkpoint(tmp_path / "other.pt", seed=1)).model
    files = {model: released / model / "1" / "model.onnx" for model in COMPONENTS}
    with pytest.raises(ParityError):
        parity.check_parity(other, files, 1540)


def test_no_repository(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="expected a Triton model repository"):
        release(checkpoint, tmp_path)


def test_command_line_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "export", "release", str(tmp_path / "none.pt"), "--repository", str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "."})
    assert done.returncode == 1
    assert done.stderr.startswith("error: no checkpoint at")
    assert len(done.stderr.splitlines()) == 1


def test_missing_checkpoint(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        release(tmp_path / "none.pt", repository)


def test_ensemble_config_parses_back_and_connects_the_contract() -> None:
    ensemble = text_format.Parse(ensemble_config(REPOSITORY, 7), pb.ModelConfig())
    assert [step.model_name for step in ensemble.ensemble_scheduling.step] == list(COMPONENTS)
    assert {step.model_version for step in ensemble.ensemble_scheduling.step} == {7}
    assert [tensor.name for tensor in ensemble.input] == ["IMAGE", "USER_HISTORY"]
    assert list(ensemble.output[0].dims) == [1540]
