"""Pictures in tar shards are the same pictures."""

import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.tiny import tiny_settings, write_tiny_data
from training.data.dataset import EvaluationPictures, ShuffledEpochs, TrainingPictures, training_batches
from training.data.histories import build_histories
from training.data.manifest import Manifest, read_manifest
from training.data.shards import main, pack, picture_of
from training.errors import DataError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures; the first one is in another folder, and has a second row."""
    folder = tmp_path_factory.mktemp("shards") / "set" / "data"
    folder.parent.mkdir()
    write_tiny_data(folder, tags=20)
    (folder / "in").mkdir()
    (folder / "0.jpg").rename(folder / "in" / "first.jpg")
    table = pl.read_parquet(folder / "manifest.parquet").with_columns(pl.col("image").replace("0.jpg", "in/first.jpg"))
    pl.concat([table, table[:1]]).write_parquet(folder / "manifest.parquet")
    return folder


@pytest.fixture(scope="module")
def packed(data: Path) -> Path:
    return pack(data, data.parent / "packed", shard_mb=0.05, quiet=True)


def contents(manifest: Manifest) -> list[bytes]:
    files = [picture_of(manifest, row) for row in range(len(manifest.images))]
    return [file if isinstance(file, bytes) else file.read_bytes() for file in files]


def test_every_row_has_the_bytes_of_its_file(data: Path, packed: Path) -> None:
    before, after = read_manifest(data), read_manifest(packed)
    assert contents(after) == contents(before)
    assert [after.images[row] for row in (0, 1, 24)] == [
        "shard-00000.tar#in/first.jpg",
        "shard-00000.tar#1.jpg",
        "shard-00000.tar#in/first.jpg",
    ]
    np.testing.assert_array_equal(after.users, before.users)
    np.testing.assert_array_equal(after.tags.values, before.tags.values)
    np.testing.assert_array_equal(after.split, before.split)


def test_shards_are_tar_files_of_at_most_their_size_with_each_picture_once(data: Path, packed: Path) -> None:
    shards = sorted(packed.glob("*.tar"))
    assert len(shards) > 2
    members = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert shard.stat().st_size <= 50_000 + 2 * tarfile.RECORDSIZE
    assert len(members) == 24
    assert members["in/first.jpg"] == (data / "in" / "first.jpg").read_bytes()


def test_training_on_shards_is_training_on_files_also_after_a_resume(data: Path, packed: Path) -> None:
    settings = tiny_settings(epochs=2, batch_size=4)
    batches = []
    for folder, start in ((data, 0), (packed, 0), (packed, 3)):
        manifest = read_manifest(folder)
        pictures = TrainingPictures(manifest, build_histories(manifest), settings, images=True)
        sampler = ShuffledEpochs(manifest.rows("train"), settings, start=start)
        batches.append(list(training_batches(pictures, sampler, workers=0)))
    files, shards, resumed = batches
    for one, other in (*zip(files, shards, strict=True), *zip(files[3:], resumed, strict=True)):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.counts, other.counts)


def damaged(packed: Path, folder: Path, **columns: pl.Expr) -> Path:
    folder.mkdir()
    for path in packed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    pl.read_parquet(packed / "manifest.parquet").with_columns(**columns).write_parquet(folder / "manifest.parquet")
    return folder


@pytest.mark.parametrize("damage", ["gone", "short", "elsewhere"])
def test_a_damaged_shard_is_named_with_the_picture(packed: Path, tmp_path: Path, damage: str) -> None:
    shift = {"shard_offset": pl.col("shard_offset") + 100} if damage == "elsewhere" else {}
    folder = damaged(packed, tmp_path / "damaged", **shift)
    shard = folder / "shard-00000.tar"
    if damage == "gone":
        shard.unlink()
    elif damage == "short":
        shard.write_bytes(shard.read_bytes()[:1000])
    manifest = read_manifest(folder)
    pictures = EvaluationPictures(manifest, build_histories(manifest), np.array([1]))
    with pytest.raises(DataError, match=r"^picture 1 of the manifest \('shard-00000\.tar#1\.jpg'\): "):
        pictures[0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"shard_bytes": pl.lit(1.5)}, "column 'shard_bytes' is Float64: expected Int64"),
        ({"shard_offset": pl.lit(-1, dtype=pl.Int64)}, "25 rows have a place in a shard that cannot be"),
        ({"shard_bytes": pl.lit(None, dtype=pl.Int64)}, "25 rows have a place in a shard that cannot be"),
        ({"image": pl.lit("a.jpg")}, "25 rows have a place in a shard that cannot be"),
    ],
)
def test_places_that_cannot_be_are_refused(packed: Path, tmp_path: Path, columns: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_manifest(damaged(packed, tmp_path / "odd", **columns))


def test_files_may_stand_beside_shards(packed: Path, data: Path, tmp_path: Path) -> None:
    """Also one with the separator of a shard's member in its name."""
    second = pl.int_range(pl.len()) == 1
    columns = {name: pl.when(second).then(None).otherwise(name) for name in ("shard_offset", "shard_bytes")}
    columns["image"] = pl.when(second).then(pl.lit("odd#1.jpg")).otherwise("image")
    folder = damaged(packed, tmp_path / "mixed", **columns)
    (folder / "odd#1.jpg").write_bytes(b"a picture")
    found = contents(read_manifest(folder))
    assert found[1] == b"a picture"
    assert found[2] == (data / "2.jpg").read_bytes()


def test_command_line(data: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(data), str(tmp_path / "out")]) == 0
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "manifest.parquet",
        "shard-00000.tar",
        "vocabulary.txt",
    ]
    for arguments, message in (
        ([data, packed], "exists: remove it or choose another folder"),
        ([packed, tmp_path / "again"], "has its pictures in shards already"),
        ([data, tmp_path / "none", "--shard-mb", "0"], "shards of 0.0 MB: expected more than 0"),
    ):
        assert main([*map(str, arguments)]) == 1
        assert message in capsys.readouterr().err


def test_a_missing_picture_leaves_nothing_behind(data: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(data / "manifest.parquet")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "vocabulary.txt").write_bytes((data / "vocabulary.txt").read_bytes())
    table.write_parquet(tmp_path / "data" / "manifest.parquet")
    with pytest.raises(DataError, match=r"cannot read .*first\.jpg"):
        pack(tmp_path / "data", tmp_path / "packed", quiet=True)
    assert not (tmp_path / "packed").exists()
