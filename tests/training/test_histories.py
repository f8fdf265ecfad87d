from pathlib import Path

import numpy as np
import polars as pl

from tests.tiny import tiny_settings
from tests.training.conftest import ROWS, manifest_and_histories, random_manifest, write
from training.data.dataset import EvaluationPictures, ShuffledEpochs, TrainingPictures, training_batches
from training.data.histories import Histories, build_histories


def test_histories_are_those_of_counting_one_by_one() -> None:
    manifest = random_manifest(pictures=300, users=40, tags=30)
    counts = np.zeros((40, 30))
    for row in manifest.rows("train"):
        counts[manifest.users[row], manifest.tags[row]] += 1
    histories = build_histories(manifest)
    vectors = counts / np.maximum(counts.max(1, keepdims=True), 1)
    np.testing.assert_array_equal([histories.tag_counts(user) for user in range(40)], counts)
    np.testing.assert_array_equal(histories.total(), counts.sum(0))
    used = np.flatnonzero(counts.sum(1))
    np.testing.assert_array_equal(histories.sample(8), counts[used[:: len(used) // 8][:8]])
    cosines = vectors @ vectors.T / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(vectors, axis=1)[:, None])
    least = [histories.least_similar(user) for user in range(40)]
    np.testing.assert_allclose(cosines[np.arange(40), least], cosines.min(1), atol=1e-12)


def test_a_user_without_history_is_like_nobody() -> None:
    offsets = np.array([0, 0, 1, 2])
    ones, known = np.ones(2, np.int32), np.ones(3, np.bool_)
    histories = Histories(tags=2, offsets=offsets, indices=np.array([0, 1], np.int32), counts=ones, known=known)
    assert histories.least_similar(1) == 2
    assert histories.least_similar(0) == 1


def test_histories_of_the_papers_size_are_sparse() -> None:
    """250,000 users x 1,540 tags would be 1.5 GB of float32; kept is what occurs (paper, section V-A)."""
    manifest = random_manifest(pictures=300_000, users=250_000, tags=1540)
    histories = build_histories(manifest)
    train = manifest.rows("train")
    assert histories.counts.sum() == manifest.tags.lengths[train].sum()
    assert len(histories) == 250_000
    assert len(histories.indices) == len(histories.counts) <= manifest.tags.lengths[train].sum()
    assert sum(array.nbytes for array in (histories.offsets, histories.indices, histories.counts)) < 10_000_000
    user = int(manifest.users[train[0]])
    assert histories.tag_counts(user)[manifest.tags[train[0]]].all()
    assert histories.least_similar(user) != user


def test_validation_pictures_are_not_counted(root: Path) -> None:
    write(
        root,
        pl.DataFrame(ROWS, schema=["image", "user", "tags", "split"], orient="row").with_columns(
            split=pl.Series(["validation", "train", "train", "test", "test"])
        ),
    )
    _, histories = manifest_and_histories(root)
    assert histories.tag_counts(0).tolist() == [1, 0, 0, 0, 0]


def test_histories_count_training_pictures_only(root: Path) -> None:
    _, histories = manifest_and_histories(root)
    assert histories.tag_counts(0).tolist() == [2, 0, 1, 0, 0]
    assert histories.tag_counts(1).tolist() == [0, 0, 0, 1, 0]
    assert histories.tag_counts(2).tolist() == [0, 0, 0, 0, 0]


def test_training_takes_the_query_picture_out_of_its_users_history(root: Path) -> None:
    manifest, histories = manifest_and_histories(root)
    _, history, tags, *_ = TrainingPictures(manifest, histories, tiny_settings(), images=True)[0, 0]
    assert tags.tolist() == [1, 0, 1, 0, 0]
    assert history.tolist() == [1, 0, 0, 0, 0], "sky was in this picture alone"
    _, only, *_ = TrainingPictures(manifest, histories, tiny_settings(), images=True)[0, 1]
    assert only.tolist() == [0, 0, 0, 0, 0], "bob's only picture leaves nothing"
    included = TrainingPictures(manifest, histories, tiny_settings(include_query_image=True), images=True)[0, 0][1]
    assert included.tolist() == [2, 0, 1, 0, 0], "the paper's way"


def test_evaluation_uses_the_whole_training_history(root: Path) -> None:
    manifest, histories = manifest_and_histories(root)
    pictures = EvaluationPictures(manifest, histories, manifest.rows("test"))
    image, history, tags, *_ = pictures[0]
    assert len(pictures) == 2
    assert image.shape == (224, 224, 3)
    assert history.tolist() == [2, 0, 1, 0, 0]
    assert tags.tolist() == [1, 1, 0, 0, 0]


def test_history_dropout_hides_about_its_share(root: Path) -> None:
    pictures = TrainingPictures(*manifest_and_histories(root), tiny_settings(history_dropout=0.3), images=True)
    hidden = np.mean([pictures[epoch, 0][1].sum() == 0 for epoch in range(200)])
    assert 0.2 < hidden < 0.4


def test_augmentation_flips_and_depends_on_epoch_and_row_alone(root: Path) -> None:
    pictures = TrainingPictures(*manifest_and_histories(root), tiny_settings(), images=True)
    lefts = [pictures[epoch, 0][0][:, :50].mean() for epoch in range(20)]
    assert {left < 128 for left in lefts} == {True, False}
    np.testing.assert_array_equal(pictures[3, 0][0], pictures[3, 0][0])
    assert any((pictures[0, 0][0] != pictures[epoch, 0][0]).any() for epoch in range(1, 5))


def test_every_epoch_shows_every_picture_once_whatever_the_workers(root: Path) -> None:
    manifest, histories = manifest_and_histories(root)
    settings = tiny_settings(epochs=4, batch_size=3)
    pictures = TrainingPictures(manifest, histories, settings, images=True)
    sampler = ShuffledEpochs(manifest.rows("train"), settings)
    alone = list(training_batches(pictures, sampler, workers=0))
    parallel = list(training_batches(pictures, sampler, workers=2))
    assert len(alone) == len(parallel) == 4
    for one, other in zip(alone, parallel, strict=True):
        assert one.tags.sum() == 4
        for name in ("image", "counts", "tags"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
