import json
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from altreco_client import Vocabulary
from PIL import Image

from tests.tiny import tiny_settings
from training.data.columns import NO_TIME
from training.data.dataset import EvaluationPictures, ShuffledEpochs, TrainingPictures, training_batches
from training.data.histories import Histories, build_histories
from training.data.manifest import SCHEMA, SPLITS, Manifest, hold_out, hold_out_users, read_manifest, read_vocabulary
from training.data.ragged import Ragged, Texts
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


def manifest_and_histories(root: Path) -> tuple[Manifest, Histories]:
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


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_what_a_manifest_may_hold(root: Path, rows_at_once: int) -> None:
    """Tags given twice or none, names that are not ASCII, columns of one's own; read in however many pieces."""
    rows = [
        ("caf\u00e9/1.jpg", "\u00fc", ["cat", "sea", "cat"], "train"),
        ("", "", None, "train"),
        ("/elsewhere/2.jpg", "\u00fc", [None, "dog", ""], "validation"),
        ("3.jpg", "ann", [], "test"),
    ]
    frame = pl.DataFrame(rows, schema=["image", "user", "tags", "split"], orient="row")
    write(root, frame.with_columns(url=pl.lit("http://host/")).select("split", "url", "tags", "image", "user"))
    manifest = read_manifest(root, rows_at_once=rows_at_once)
    assert [manifest.images[row] for row in range(4)] == [image for image, *_ in rows]
    assert [manifest.user_names[user] for user in manifest.users] == [user for _, user, *_ in rows]
    assert [manifest.tags[row].tolist() for row in range(4)] == [[0, 4], [], [3], []]
    assert manifest.tags.lengths.tolist() == [2, 0, 1, 0]
    assert [manifest.rows(split).tolist() for split in SPLITS] == [[0, 1], [2], [3], []]


def test_history_pictures_count_for_their_user_and_shape_nothing(root: Path) -> None:
    """Eve has no training pictures: the service meets her with a history that no training has seen."""
    rows = [*ROWS, ("f.png", "eve", ["cat", "sky"], "history"), ("g.png", "eve", ["cat"], "history")]
    old = build_histories(read_manifest(root))
    write(root, pl.DataFrame(rows, schema=["image", "user", "tags", "split"], orient="row"))
    manifest, histories = read_manifest(root), build_histories(read_manifest(root))
    assert manifest.rows("history").tolist() == [5, 6]
    assert histories.known.tolist() == [True, True, False]
    assert histories.tag_counts(2).tolist() == [0, 0, 1, 0, 2]
    assert old.tag_counts(2).tolist() == [0] * 5
    assert histories.tag_counts(0).tolist() == old.tag_counts(0).tolist()
    assert histories.total().tolist() == old.total().tolist()
    assert histories.users_per_tag().tolist() == old.users_per_tag().tolist()
    assert histories.sample().tolist() == old.sample().tolist()


def test_a_user_with_training_and_history_pictures_is_refused(root: Path) -> None:
    write(root, pl.DataFrame([*ROWS, ("f.png", "bob", ["dog"], "history")], schema=list(SCHEMA), orient="row"))
    with pytest.raises(DataError, match="user 'bob' has pictures of the splits train and history: expected history"):
        read_manifest(root)


def test_hold_out_makes_a_validation_split_of_training_pictures() -> None:
    manifest = random_manifest(pictures=1000, users=10, tags=5)
    held = hold_out(manifest, 0.1, seed=1)
    assert len(held.rows("validation")) == 90
    assert np.isin(held.rows("validation"), manifest.rows("train")).all()
    np.testing.assert_array_equal(held.rows("test"), manifest.rows("test"))
    np.testing.assert_array_equal(held.split, hold_out(manifest, 0.1, seed=1).split)
    assert (held.split != hold_out(manifest, 0.1, seed=2).split).any()
    assert hold_out(held, 0.5, seed=3) is held, "a split that is there already stays"


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.5, 2), (0.99, 2)])
def test_hold_out_takes_some_but_never_all(root: Path, share: float, count: int) -> None:
    assert len(hold_out(read_manifest(root), share, seed=1).rows("validation")) == count


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_hold_out_of_no_share(root: Path, share: float) -> None:
    with pytest.raises(DataError, match="expected 0 < share < 1"):
        hold_out(read_manifest(root), share, seed=1)
    with pytest.raises(DataError, match="expected 0 < share < 1"):
        hold_out_users(read_manifest(root), share, seed=1)


def test_held_out_users_have_no_training_pictures_but_a_history() -> None:
    manifest = random_manifest(pictures=1000, users=10, tags=5)
    held = hold_out_users(manifest, 0.2, seed=1)
    users, known = (np.unique(held.users[held.rows(split)]) for split in ("validation", "train"))
    assert len(users) == 2
    assert not np.isin(users, known).any()
    for user in users:
        validation, past = ((held.users[held.rows(split)] == user).sum() for split in ("validation", "history"))
        assert abs(validation - past) <= 1
        assert validation + past == (manifest.users[manifest.rows("train")] == user).sum()
        assert build_histories(held).tag_counts(user).any()
    np.testing.assert_array_equal(held.rows("test"), manifest.rows("test"))
    np.testing.assert_array_equal(held.split, hold_out_users(manifest, 0.2, seed=1).split)
    assert (held.split != hold_out_users(manifest, 0.2, seed=2).split).any()
    assert hold_out_users(held, 0.5, seed=3) is held, "validation users that are there already stay"
    pictures = hold_out(manifest, 0.1, seed=1)
    assert len(hold_out_users(pictures, 0.1, seed=1).rows("history")), "held-out pictures of known users are no such"


def test_held_out_users_leave_somebody_to_train_on(root: Path) -> None:
    held = hold_out_users(read_manifest(root), 0.99, seed=1)
    assert [held.rows(split).tolist() for split in ("train", "test")] == [[1], [3, 4]], "bob has one picture alone"


def random_manifest(pictures: int, users: int, tags: int) -> Manifest:
    """One picture in ten for testing; 0 to 4 tags each."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, tags, (pictures, 4)), rng.random((pictures, 4)) < 0.5
    rows = [np.unique(indices[kept]).astype(np.int32) for indices, kept in zip(*drawn, strict=True)]
    names = np.frombuffer(b"x" * pictures, dtype=np.uint8)
    return Manifest(
        root=Path(),
        vocabulary=Vocabulary(tuple(map(str, range(tags)))),
        images=Texts(Ragged.from_parts([np.ones(pictures, dtype=np.int64)], [names])),
        users=rng.integers(0, users, pictures),
        user_names=[str(user) for user in range(users)],
        tags=Ragged.from_parts([np.array([len(row) for row in rows])], rows),
        split=np.where(np.arange(pictures) % 10 == 0, SPLITS.index("test"), SPLITS.index("train")).astype(np.int8),
    )


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


def test_a_vocabulary_of_another_data_set_is_refused(root: Path) -> None:
    (root / "vocabulary.txt").write_text("nikon\ncanon\n")
    with pytest.raises(DataError, match="no training picture has a tag"):
        read_manifest(root)


def test_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text("sea\n")
    with pytest.raises(DataError, match=r"training\.data\.synthetic"):
        read_manifest(tmp_path)


def test_data_is_written_as_the_guide_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guide = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    exec(compile(block, "data.md", "exec"), {})
    manifest, histories = manifest_and_histories(tmp_path / "data" / "mine")
    assert len(manifest.rows("train")) == len(manifest.rows("test")) == 1
    assert histories.tag_counts(0).tolist() == [1, 1]


@pytest.mark.parametrize("text", ["nikon\nsea\n", "nikon\nsea", "nikon\r\nsea\r\n", "nikon\rsea", "\ufeffnikon\nsea\n"])
def test_each_line_is_a_tag_however_the_file_begins_and_ends(root: Path, text: str) -> None:
    (root / "vocabulary.txt").write_text(text, newline="", encoding="utf-8")
    assert read_manifest(root).vocabulary.tags == ("nikon", "sea")


@pytest.mark.parametrize(("text", "line"), [("", 1), ("nikon\n\nsea\n", 2), ("nikon\nsea\n \n", 3)])
def test_an_empty_line_of_the_vocabulary_is_named(root: Path, text: str, line: int) -> None:
    (root / "vocabulary.txt").write_text(text)
    with pytest.raises(DataError, match=rf"vocabulary\.txt: line {line}: expected a tag"):
        read_manifest(root)


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
    with pytest.raises(DataError, match="not a Parquet file"):
        read_manifest(root)


@pytest.mark.parametrize(
    ("split", "message"), [("validate", "expected train, validation, test, history"), ("test", "no training")]
)
def test_splits_that_cannot_train(root: Path, split: str, message: str) -> None:
    write(root, pl.read_parquet(root / "manifest.parquet").with_columns(split=pl.lit(split)))
    with pytest.raises(DataError, match=message):
        read_manifest(root)


@pytest.mark.parametrize("column", ["image", "user"])
def test_rows_without_image_or_user(root: Path, column: str) -> None:
    frame = pl.read_parquet(root / "manifest.parquet")
    write(root, frame.with_columns(pl.when(pl.col("split") == "test").then(None).otherwise(column).alias(column)))
    with pytest.raises(DataError, match=f"2 rows have no {column}"):
        read_manifest(root)


def test_a_manifest_may_say_when_and_where_and_what(root: Path) -> None:
    frame = pl.read_parquet(root / "manifest.parquet").with_columns(
        taken=pl.Series([datetime(2000, 1, 1, 0, 1, 59), datetime(1999, 12, 31, 23, 59), None, None, None]),
        longitude=pl.Series([2.25, 0.0, -180.0, None, None]),
        latitude=pl.Series([48.5, None, 90.0, None, None]),
        labels=pl.Series([["water", "plants"], [], None, ["water", None], ["water", "water", ""]]),
    )
    write(root, frame)
    for rows_at_once in (2, 100):
        manifest = read_manifest(root, rows_at_once=rows_at_once)
        context, labels = manifest.context, manifest.labels
        assert context is not None
        assert context.minute.tolist() == [1, -1, NO_TIME, NO_TIME, NO_TIME]
        assert context.has_time.tolist() == [True, True, False, False, False]
        assert context.place[[0, 2]].tolist() == [[2.25, 48.5], [-180, 90]]
        assert context.has_place.tolist() == [True, False, True, False, False]
        assert np.isnan(context.place[1]).all(), "half a place is none"
        assert labels is not None
        assert labels.names == ("plants", "water")
        assert [labels.indices[row].tolist() for row in range(5)] == [[0, 1], [], [], [1], [1]]


def test_a_manifest_need_not_say_when_and_where_and_what(root: Path) -> None:
    manifest = read_manifest(root)
    assert manifest.context is None
    assert manifest.labels is None
    write(root, pl.read_parquet(root / "manifest.parquet").with_columns(taken=datetime(2000, 1, 2)))
    context = read_manifest(root).context
    assert context is not None
    assert context.minute.tolist() == [1440] * 5
    assert not context.has_place.any()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"taken": "2012-02-16"}, r"column 'taken' is String: expected Datetime"),
        ({"longitude": 1.0}, r"column 'latitude' is None: expected Float64"),
        ({"longitude": 180.5, "latitude": 1.0}, r"5 rows have coordinates beyond 180 or 90 degrees"),
        ({"longitude": 1.0, "latitude": -91.0}, r"5 rows have coordinates beyond 180 or 90 degrees"),
        ({"labels": "water"}, r"column 'labels' is String: expected List\(String\)"),
    ],
)
def test_when_and_where_and_what_that_cannot_be(root: Path, columns: dict, message: str) -> None:
    frame = pl.read_parquet(root / "manifest.parquet").with_columns(**{n: pl.lit(v) for n, v in columns.items()})
    write(root, frame)
    with pytest.raises(DataError, match=message):
        read_manifest(root)


def test_tags_outside_the_vocabulary_are_counted(root: Path) -> None:
    manifest = read_manifest(root)
    assert (manifest.given_tags, manifest.unknown_tags) == (8, 1)
    decomposed = [["Sea", "cafe\u0301"], ["caf\u00e9", None, ""], ["sea"], [], ["sea"]]
    write(root, pl.read_parquet(root / "manifest.parquet").with_columns(tags=pl.Series(decomposed)))
    (root / "vocabulary.txt").write_text("sea\ncaf\u00e9\n", encoding="utf-8")
    for rows_at_once in (1, 100):
        manifest = read_manifest(root, rows_at_once=rows_at_once)
        assert (manifest.given_tags, manifest.unknown_tags) == (5, 2), "of another case or Unicode form"


@pytest.mark.parametrize("separator", ["\x85", "\u2028"])
def test_a_line_separator_ends_no_line_and_is_no_part_of_a_tag(tmp_path: Path, separator: str) -> None:
    (tmp_path / "vocabulary.txt").write_text(f"sea{separator}side\nsky\n", encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(repr(f"sea{separator}side"))):
        read_vocabulary(tmp_path / "vocabulary.txt")
