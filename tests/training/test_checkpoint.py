import resource
from pathlib import Path

import pytest
import torch

from tests.tiny import save_tiny_checkpoint
from training.checkpoint import load_checkpoint, load_with_data, save_checkpoint
from training.errors import CheckpointError, DataError


def test_round_trip(tmp_path: Path) -> None:
    path = save_tiny_checkpoint(tmp_path / "tiny.pt", tags=20)
    loaded = load_checkpoint(path)
    save_checkpoint(tmp_path / "again.pt", loaded)
    again = load_checkpoint(tmp_path / "again.pt")
    assert again.settings == loaded.settings
    assert again.vocabulary.tags[:2] == ("tag-0", "tag-1")
    for name, weight in loaded.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], weight, rtol=0, atol=0)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none.pt")


def test_damaged(tmp_path: Path) -> None:
    path = save_tiny_checkpoint(tmp_path / "tiny.pt", tags=20)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)


def test_with_its_data(tmp_path: Path) -> None:
    path = save_tiny_checkpoint(tmp_path / "tiny.pt", tags=20)
    checkpoint, manifest, histories = load_with_data(path, tmp_path / "tiny.data")
    assert checkpoint.vocabulary == manifest.vocabulary
    assert histories.total().sum() == manifest.tags.lengths[manifest.rows("train")].sum() > 0


def test_data_of_another_vocabulary(tmp_path: Path) -> None:
    path = save_tiny_checkpoint(tmp_path / "tiny.pt", tags=20)
    save_tiny_checkpoint(tmp_path / "other.pt", tags=21)
    with pytest.raises(CheckpointError, match=rf"{path} was trained on another vocabulary than .*other\.data: "):
        load_with_data(path, tmp_path / "other.data")
    with pytest.raises(DataError):
        load_with_data(path, tmp_path / "nowhere")


@pytest.mark.parametrize("content", [{"weights": {}}, [1, 2]])
def test_foreign(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        load_checkpoint(tmp_path / "foreign.pt")


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"format": "altreco-checkpoint-1", "run": Path}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = save_tiny_checkpoint(tmp_path / "tiny.pt", tags=20)
    before, checkpoint, beside = path.read_bytes(), load_checkpoint(path), set(tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match="cannot write checkpoint"):
            save_checkpoint(path, checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert set(tmp_path.iterdir()) == beside
