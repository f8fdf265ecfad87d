import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.tiny import tiny_settings
from training.data.dataset import EvaluationPictures, TrainingPictures, training_batches
from training.data.histories import build_histories
from training.data.manifest import Manifest, read_manifest
from training.errors import DataError

TAGS = ("sea", "beach", "sky", "dog", "cat")
ROWS = [
    ("a.png", "ann", ["sea", "sky"], "train"),
    ("b.png", "bob", ["dog"], "train"),
    ("c.png", "ann", ["sea", "unheard-of"], "train"),
    ("d.png", "ann", ["sea", "beach"], "test"),
    ("e.png", "eve", ["cat"], "test"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five pictures; the left half of each is black, the right half white."""
    half = np.zeros((300, 300, 3), dtype=np.uint8)
    half[:, 150:] = 255
    for name, *_ in ROWS:
        Image.fromarray(half).save(tmp_path / name)
    write(tmp_path, pl.DataFrame(ROWS, schema=["image", "user", "tags", "split"], orient="row"))
    (tmp_path / "vocabulary.txt").write_text("".join(f"{tag}\n" for tag in TAGS))
    return tmp_path


def write(root: Path, frame: pl.DataFrame) -> None:
    frame.write_parquet(root / "manifest.parquet")


def manifest_and_histories(root: Path) -> tuple[Manifest, object]:
    manifest = read_manifest(root)
    return manifest, build_histories(manifest)


def test_manifest(root: Path) -> None:
    manifest = read_manifest(root)
    assert manifest.vocabulary.tags == TAGS
    assert list(manifest.user_names) == ["ann", "bob", "eve"]
    assert manifest.users.tolist() == [0, 1, 0, 0, 2]
    assert manifest.rows("train").tolist() == [0, 1, 2]
    assert manifest.rows("test").tolist() == [3, 4]
    assert manifest.multi_hot(2).tolist() == [1, 0, 0, 0, 0], "a tag outside the vocabulary is left out"


def test_histories_count_training_pictures_only(root: Path) -> None:
    _, histories = manifest_and_histories(root)
    assert histories.vector(0).tolist() == [1, 0, 0.5, 0, 0]
    assert histories.vector(1).tolist() == [0, 0, 0, 1, 0]
    assert histories.vector(2).tolist() == [0, 0, 0, 0, 0]


def test_training_takes_the_query_picture_out_of_its_users_history(root: Path) -> None:
    manifest, histories = manifest_and_histories(root)
    _, history, tags = TrainingPictures(manifest, histories, tiny_settings())[0, 0]
    assert tags.tolist() == [1, 0, 1, 0, 0]
    assert history.tolist() == [1, 0, 0, 0, 0], "sky was in this picture alone"
    _, only, _ = TrainingPictures(manifest, histories, tiny_settings())[0, 1]
    assert only.tolist() == [0, 0, 0, 0, 0], "bob's only picture leaves nothing"
    included = TrainingPictures(manifest, histories, tiny_settings(include_query_image=True))[0, 0][1]
    assert included.tolist() == [1, 0, 0.5, 0, 0], "the paper's way"


def test_evaluation_uses_the_whole_training_history(root: Path) -> None:
    pictures = EvaluationPictures(*manifest_and_histories(root))
    image, history, tags = pictures[0]
    assert len(pictures) == 2
    assert image.shape == (224, 224, 3)
    assert history.tolist() == [1, 0, 0.5, 0, 0]
    assert tags.tolist() == [1, 1, 0, 0, 0]


def test_history_dropout_hides_about_its_share(root: Path) -> None:
    pictures = TrainingPictures(*manifest_and_histories(root), tiny_settings(history_dropout=0.3))
    hidden = np.mean([pictures[epoch, 0][1].sum() == 0 for epoch in range(200)])
    assert 0.2 < hidden < 0.4


def test_augmentation_flips_and_depends_on_epoch_and_row_alone(root: Path) -> None:
    pictures = TrainingPictures(*manifest_and_histories(root), tiny_settings())
    lefts = [pictures[epoch, 0][0][:, :50].mean() for epoch in range(20)]
    assert {left < 128 for left in lefts} == {True, False}
    np.testing.assert_array_equal(pictures[3, 0][0], pictures[3, 0][0])
    assert any((pictures[0, 0][0] != pictures[epoch, 0][0]).any() for epoch in range(1, 5))


def test_every_epoch_shows_every_picture_once_whatever_the_workers(root: Path) -> None:
    manifest, histories = manifest_and_histories(root)
    settings = tiny_settings(epochs=4, batch_size=3)
    alone = list(training_batches(manifest, histories, settings, workers=0))
    parallel = list(training_batches(manifest, histories, settings, workers=2))
    assert len(alone) == len(parallel) == 4
    for one, other in zip(alone, parallel, strict=True):
        assert one.tags.sum() == 4
        for name in ("image", "history", "tags"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_vocabulary_of_another_data_set_is_refused(root: Path) -> None:
    (root / "vocabulary.txt").write_text("nikon\ncanon\n")
    with pytest.raises(DataError, match="no training picture has a tag"):
        read_manifest(root)


def test_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text("sea\n")
    with pytest.raises(DataError, match=r"training\.data\.synthetic"):
        read_manifest(tmp_path)


def test_missing_vocabulary(root: Path) -> None:
    (root / "vocabulary.txt").unlink()
    with pytest.raises(DataError, match="no vocabulary"):
        read_manifest(root)


@pytest.mark.parametrize("column", ["image", "user", "tags", "split"])
def test_missing_column_is_named(root: Path, column: str) -> None:
    write(root, pl.read_parquet(root / "manifest.parquet").drop(column))
    with pytest.raises(DataError, match=f"column '{column}' is None"):
        read_manifest(root)


def test_no_parquet_file(root: Path) -> None:
    (root / "manifest.parquet").write_text(json.dumps(ROWS))
    with pytest.raises(DataError, match="no Parquet file"):
        read_manifest(root)


@pytest.mark.parametrize(("split", "message"), [("validate", "expected train or test"), ("test", "no training")])
def test_splits_that_cannot_train(root: Path, split: str, message: str) -> None:
    write(root, pl.read_parquet(root / "manifest.parquet").with_columns(split=pl.lit(split)))
    with pytest.raises(DataError, match=message):
        read_manifest(root)
