import json
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.training.conftest import ROWS, TAGS, manifest_and_histories, random_manifest, write
from training.data.columns import NO_TIME
from training.data.histories import build_histories
from training.data.manifest import SCHEMA, SPLITS, hold_out, hold_out_users, read_manifest, read_vocabulary
from training.errors import DataError


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
    manifest, histories = manifest_and_histories(tmp_path / "build" / "own")
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
