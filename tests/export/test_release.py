import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.__main__ import main
from export.catalogue import rollback
from export.config import ensemble_config, read_config, released_version
from export.errors import ConfigError, ExportError, GateError, RepositoryBusy, VocabularyError
from export.gates import PYTORCH, QUALITY, SERVED, pytorch_gate, quality_gate, require
from export.graph.onnx_files import onnx_recommender
from export.graph.onnx_model import metadata_of
from export.manifest import Precision, read_manifest
from export.quality import golden_inputs, precision_at_5, torch_recommender
from export.release import Options, release
from export.repository import locked, manifest_file, model_files, sha256
from tests.called import called
from tests.kept import FEW_TAGS, Kept
from tests.tiny import REPOSITORY, TAGS, copy_configs, tiny_model
from training.checkpoint import load_checkpoint, save_checkpoint
from training.data.histories import build_histories
from training.data.manifest import read_manifest as read_data
from training.errors import CheckpointError

COMPONENTS = ("visual_encoder", "preference_encoder", "classifier")
QUIET = Options(quiet=True)


@pytest.fixture
def repository(tmp_path: Path, released: Path) -> Path:
    return shutil.copytree(released, tmp_path / "model_repository")


def tree(repository: Path) -> dict[str, bytes]:
    """All files but the lock, which is empty and stays."""
    return {
        str(p.relative_to(repository)): p.read_bytes()
        for p in repository.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def edit(repository: Path, model: str, old: str, new: str) -> None:
    path = repository / model / "config.pbtxt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_first_release_is_whole_and_leaves_the_committed_configs_as_they_are(released: Path) -> None:
    assert released_version(released) == 1
    for model in (*COMPONENTS, "tag_recommender"):
        name = f"{model}/config.pbtxt"
        assert (released / name).read_text() == (REPOSITORY / name).read_text()
    assert (released / "classifier" / "tags.txt").read_text().split("\n")[:2] == ["tag-0", "tag-1"]
    assert not (released / "tag_recommender" / ".staging").exists()


def test_manifest_says_what_it_is_and_what_was_measured(released: Path, checkpoint: Path) -> None:
    manifest = read_manifest(manifest_file(released, 1))
    assert (manifest.version, manifest.precision, manifest.tags, manifest.preset) == (1, "fp32", 1540, "tiny")
    assert manifest.checkpoint_sha256 == sha256(checkpoint)
    assert manifest.vocabulary_sha256 == sha256(released / "classifier" / "tags.txt")
    assert manifest.tools["torch"] == version("torch")
    assert set(manifest.files) == {f"{model}/1/model.onnx" for model in COMPONENTS} | {"tag_recommender/1/golden.npz"}
    assert all(sha256(released / name) == digest for name, digest in manifest.files.items())
    assert [gate.name for gate in manifest.gates] == [PYTORCH, SERVED, QUALITY]
    assert 0 < manifest.gate(PYTORCH).measured < 1e-4
    assert ".jpg" in manifest.gate(PYTORCH).worst
    assert manifest.gate(QUALITY).worst.endswith("on 8 test pictures")
    assert manifest.precision_at_5["checkpoint"] == manifest.precision_at_5["release"]


def test_the_onnx_files_carry_the_same(released: Path) -> None:
    manifest = read_manifest(manifest_file(released, 1))
    for file in model_files(released, 1).values():
        found = metadata_of(file)
        assert found["version"] == "1"
        for name in ("checkpoint_sha256", "vocabulary_sha256", "precision", "created", "preset"):
            assert found[name] == getattr(manifest, name)
        assert found["contract"] == str(manifest.contract) == "2"


def test_names_inside_the_graphs_are_the_releases_own(released: Path, checkpoint: Path) -> None:
    prefix = f"{sha256(checkpoint)[:12]}-fp32/"
    for file in model_files(released, 1).values():
        graph = onnx.load(file).graph
        outputs = {name for node in graph.node for name in node.output} - {value.name for value in graph.output}
        assert outputs
        assert all(name.startswith(prefix) for name in outputs)


def test_the_same_checkpoint_again_changes_nothing(repository: Path, checkpoint: Path) -> None:
    before = tree(repository)
    again = release(checkpoint, repository, QUIET)
    assert (again.manifest.version, again.new) == (1, False)
    assert str(again).startswith(f"{repository} serves this checkpoint already, as release 1 (`--again` makes another")
    assert str(again).endswith(f".venv/bin/python -m export show 1 --repository {repository}")
    assert tree(repository) == before
    assert str(replace(again, new=True)).splitlines()[-1] == f"published release 1 (fp32) in {repository}"


def test_next_release_pins_its_own_versions_and_keeps_the_old(two: Path) -> None:
    ensemble = read_config(two, "tag_recommender")
    assert [step.model_version for step in ensemble.ensemble_scheduling.step] == [2, 2, 2]
    assert list(ensemble.version_policy.specific.versions) == [2]
    assert (two / "visual_encoder" / "1" / "model.onnx").exists()


@pytest.mark.slow
def test_changed_configs_are_another_release_of_the_same_checkpoint(repository: Path, checkpoint: Path) -> None:
    edit(repository, "classifier", "max_batch_size: 32", "max_batch_size: 16")
    assert not release(checkpoint, repository, QUIET).new
    published = release(checkpoint, repository, replace(QUIET, again=True))
    assert (published.manifest.version, published.new) == (2, True)
    assert read_config(repository, "tag_recommender").max_batch_size == 16


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_same_checkpoint_in_another_precision_is_another_release(
    repository: Path, checkpoint: Path, precision: Precision
) -> None:
    manifest = release(checkpoint, repository, replace(QUIET, precision=precision)).manifest
    assert (manifest.version, manifest.precision) == (2, precision)
    assert all(gate.passed for gate in manifest.gates)
    sizes = [sum(file.stat().st_size for file in model_files(repository, version).values()) for version in (1, 2)]
    assert sizes[1] < sizes[0]
    assert {metadata_of(file)["precision"] for file in model_files(repository, 2).values()} == {precision}


def test_another_vocabulary_is_refused(repository: Path, other: Path) -> None:
    (repository / "classifier" / "tags.txt").write_text("other\n" * 1540)
    before = tree(repository)
    with pytest.raises(VocabularyError, match=r"tags\.txt holds another vocabulary"):
        release(other, repository, QUIET)
    assert tree(repository) == before


def test_a_vocabulary_of_another_size_is_refused(kept: Kept, tmp_path: Path) -> None:
    repository = copy_configs(tmp_path / "model_repository")
    before = tree(repository)
    with pytest.raises(
        ConfigError,
        match=r"preference_encoder/config\.pbtxt: input USER_TAG_COUNTS dims: expected \[60\].*found \[1540\]",
    ):
        release(kept.checkpoint(tags=FEW_TAGS), repository, QUIET)
    assert tree(repository) == before


def test_a_config_that_does_not_fit_is_refused_and_nothing_is_published(tmp_path: Path, checkpoint: Path) -> None:
    repository = copy_configs(tmp_path / "model_repository")
    edit(repository, "visual_encoder", "dims: [ 64, 7, 7 ]", "dims: [ 64, 14, 14 ]")
    before = tree(repository)
    with pytest.raises(ConfigError, match=r"visual_encoder/config\.pbtxt: .*64, 7, 7.*64, 14, 14"):
        release(checkpoint, repository, QUIET)
    assert tree(repository) == before


def test_labels_must_be_named_in_the_config(tmp_path: Path, checkpoint: Path) -> None:
    repository = copy_configs(tmp_path / "model_repository")
    edit(repository, "classifier", ' label_filename: "tags.txt"', "")
    with pytest.raises(ConfigError, match=r"classifier/config\.pbtxt: .*label_filename: expected 'tags\.txt'"):
        release(checkpoint, repository, QUIET)


def test_a_model_that_answers_nonsense_is_refused(repository: Path, other: Path, tmp_path: Path) -> None:
    broken = load_checkpoint(other)
    with torch.no_grad():
        broken.model.classifier.fc2.weight[3] = float("nan")
    save_checkpoint(tmp_path / "broken.pt", broken)
    before = tree(repository)
    with pytest.raises(GateError, match=rf"refused: {PYTORCH}: inf, at most 0\.0001 is allowed \(at \d+\.jpg"):
        release(tmp_path / "broken.pt", repository, QUIET)
    assert tree(repository) == before


def test_the_gate_tells_other_weights_apart(released: Path, checkpoint: Path) -> None:
    data = read_data(load_checkpoint(checkpoint).data)
    inputs = golden_inputs(data, build_histories(data))
    cold = ["cold start" in name for name in inputs.names]
    assert sum(cold) == 4
    assert not inputs.counts[cold].any()
    assert inputs.counts.max() == np.finfo(np.float32).max
    assert [(counts > 0).sum() for counts in inputs.counts[-3:]] == [1, TAGS, TAGS]
    onnx = onnx_recommender(model_files(released, 1))
    assert pytorch_gate(torch_recommender(load_checkpoint(checkpoint).model), inputs, onnx, "fp32").passed
    gate = pytorch_gate(torch_recommender(tiny_model(seed=1)), inputs, onnx, "fp32")
    with pytest.raises(GateError) as caught:
        require([gate])
    assert caught.value.gates == (gate,)


def test_the_quality_gate_compares_on_the_same_pictures(checkpoint: Path) -> None:
    data = read_data(load_checkpoint(checkpoint).data)
    histories = build_histories(data)
    truth = np.stack([data.multi_hot(row) for row in data.rows("test")])
    one_less = truth.copy()
    one_less[0, truth[0].argmax()] = 0  # a hit of 3 on one of 8 pictures: 0.2 / 8 less
    recommenders = {"all": lambda image, _: truth[: len(image)], "one less": lambda image, _: one_less[: len(image)]}
    found = precision_at_5(recommenders, data, histories, pictures=1000, quiet=True)
    assert found == {"all": pytest.approx(0.6), "one less": pytest.approx(0.575)}
    with pytest.raises(GateError, match=rf"{QUALITY}: 0\.025, at most 0\.005 is allowed \(0\.600 to 0\.575 on 8 test"):
        require([quality_gate(found["all"], found["one less"], 8)])
    require([quality_gate(0.5, 0.496, 8), quality_gate(0.5, 0.6, 8)])


def test_no_repository(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="expected a Triton model repository"):
        release(checkpoint, tmp_path, QUIET)


def test_data_that_is_gone_or_another_vocabularys(kept: Kept, repository: Path, other: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(other)
    save_checkpoint(tmp_path / "moved.pt", replace(checkpoint, data=tmp_path / "gone"))
    with pytest.raises(ExportError, match=r"no data set at .*gone.*--data"):
        release(tmp_path / "moved.pt", repository, QUIET)
    save_checkpoint(tmp_path / "old.pt", replace(checkpoint, data=None))
    with pytest.raises(ExportError, match="name it with --data"):
        release(tmp_path / "old.pt", repository, QUIET)
    small = load_checkpoint(kept.checkpoint(tags=FEW_TAGS)).data
    with pytest.raises(CheckpointError, match=rf"{other} was trained on another vocabulary than {small}: "):
        release(other, repository, replace(QUIET, data=small))


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_a_missing_or_truncated_checkpoint(repository: Path, other: Path, tmp_path: Path, keep: int) -> None:
    cut = tmp_path / "cut.pt"
    if keep:
        cut.write_bytes(other.read_bytes()[:keep])
    before = tree(repository)
    with pytest.raises(CheckpointError, match="not a readable checkpoint" if keep else "no checkpoint"):
        release(cut, repository, QUIET)
    assert tree(repository) == before


def test_two_at_once_one_is_refused(repository: Path, other: Path) -> None:
    with locked(repository), pytest.raises(RepositoryBusy, match="another command is writing"):
        release(other, repository, QUIET)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export", *arguments]
    path = os.pathsep.join((".", os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@contextmanager
def nobody() -> Iterator[None]:
    """Root may write anywhere: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_repository(repository: Path, other: Path) -> None:
    before = tree(repository)
    other = Path(shutil.copy(other, repository.parent))
    for path in (repository, *repository.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in repository.parents[:4]:  # pytest's own and xdist's, for their user alone
        if path.stat().st_mode & 0o055 != 0o055:
            path.chmod(path.stat().st_mode | 0o055)
    message = rf"cannot write to {repository}: Permission denied; nothing was changed"
    with nobody():
        with pytest.raises(ExportError, match=message):
            release(other, repository, QUIET)
        with pytest.raises(ExportError, match=message):
            rollback(repository, 1)
    for path in (repository, *repository.rglob("*")):
        path.chmod(0o755)
    assert tree(repository) == before


def test_command_line_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    done = called(main, "release", tmp_path / "none.pt", "--repository", REPOSITORY)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no checkpoint at")
    assert len(done.stderr.splitlines()) == 1


def test_ensemble_config_parses_back_and_connects_the_contract() -> None:
    ensemble = text_format.Parse(ensemble_config(REPOSITORY, 7), pb.ModelConfig())
    assert [step.model_name for step in ensemble.ensemble_scheduling.step] == list(COMPONENTS)
    assert {step.model_version for step in ensemble.ensemble_scheduling.step} == {7}
    assert [tensor.name for tensor in ensemble.input] == ["IMAGE", "USER_TAG_COUNTS"]
    assert list(ensemble.output[0].dims) == [1540]
