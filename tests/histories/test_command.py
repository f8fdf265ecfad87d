"""`altreco history import` and `export`: a database's counts as a Parquet file."""

import os
from pathlib import Path

import pyarrow as pa
import pytest
from altreco_client.__main__ import main
from altreco_client.histories import Histories
from pyarrow import parquet

from tests.client.odd_server import closed_port
from tests.histories.beside import counted


def altreco_history(*words: str | Path) -> int:
    return main(["history", *map(str, words)])


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/histories.db"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "files" / "histories.parquet"


@pytest.fixture(autouse=True)
def folder(file: Path) -> None:
    file.parent.mkdir()


def test_counts_go_from_one_database_to_another(
    url: str, database: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = f"sqlite:///{tmp_path}/other.db" if database == url else url
    with Histories(database) as store:
        store.save("ana", "1", ["sea", "naïve"])
        store.save("ana", "2", ["sea"])
        store.set_counts([("ben", "dog", 2.5), ("ben", "cat", 3e38)])
    assert altreco_history("export", "--store", database, file) == 0
    for _ in range(2):
        assert altreco_history("import", "--store", other, file) == 0
    assert capsys.readouterr().out == f"{file}: 4 counts\n" * 3
    assert counted(other) == counted(database)
    table = parquet.read_table(file)
    assert table.schema.names == ["user", "tag", "count"]
    assert table.to_pylist()[-1] == {"user": "ben", "tag": "dog", "count": 2.5}
    assert os.listdir(file.parent) == [file.name]


def test_an_empty_database_is_an_empty_file_and_a_missing_one_an_error(
    url: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert altreco_history("export", "--store", url, file) == 1
    assert "there are no histories in" in capsys.readouterr().err
    with Histories(url) as store:
        assert store["ana"] == {}
    assert altreco_history("export", "--store", url, file) == 0
    assert altreco_history("import", "--store", url, file) == 0
    assert capsys.readouterr().out == f"{file}: 0 counts\n" * 2
    assert parquet.read_table(file).schema.names == ["user", "tag", "count"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"user": ["ana"], "label": ["sea"], "count": [1]}, "no column tag: expected user, tag, count"),
        ({"user": ["ana"], "tag": [None], "count": [1]}, "tag None: expected a str"),
        ({"user": [7], "tag": ["sea"], "count": [1]}, "user 7: expected a str"),
        ({"user": ["ana"], "tag": ["sea"], "count": [-1.0]}, "count of 'sea' is -1.0: expected"),
        ({"user": ["ana"], "tag": ["sea"], "count": [float("nan")]}, "count of 'sea' is nan: expected"),
        (None, "cannot be read as Parquet"),
    ],
)
def test_a_file_that_makes_no_sense_is_named(
    columns: dict[str, list[object]] | None, words: str, url: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if columns is None:
        file.write_text("no Parquet")
    else:
        parquet.write_table(pa.table(columns), file)
    assert altreco_history("import", "--store", url, file) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {file}: {words}")
    assert said.count("\n") == 1
    assert counted(url) == {}


def test_a_missing_file_is_named(url: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert altreco_history("import", "--store", url, file) == 1
    assert "cannot be read as Parquet" in capsys.readouterr().err


def test_a_database_that_is_away_leaves_the_old_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("old")
    away = f"postgresql://ana:s3cret@{closed_port()}/photos"
    assert altreco_history("export", "--store", away, file) == 1
    said = capsys.readouterr().err
    assert "/photos cannot be used" in said
    assert "s3cret" not in said
    assert file.read_text() == "old"
    assert os.listdir(file.parent) == [file.name]


def test_a_full_disk_leaves_the_old_file(url: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full, which stands for a full disk")
    file.write_text("old")
    file.with_name(f"{file.name}.{os.getpid()}.partial").symlink_to("/dev/full")
    with Histories(url) as store:
        store.save("ana", "1", ["sea"])
    assert altreco_history("export", "--store", url, file) == 1
    assert "cannot write the history" in capsys.readouterr().err
    assert file.read_text() == "old"
    assert os.listdir(file.parent) == [file.name]
