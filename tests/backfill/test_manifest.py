from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from altreco_client import InvalidImage
from altreco_client.histories import Histories

from backfill.errors import InputError
from backfill.histories import histories, with_histories
from backfill.plan import Plan, read_manifest, read_plan
from backfill.storage import place, read_image
from backfill.tagging import check_columns
from tests.backfill.stored import write_manifest, write_rows

PLAN = Plan(manifest_sha256="a", rows=9, parts=2, part_rows=5, k=5, release="1")


def test_parts_are_whole_row_groups_and_every_row_is_in_one(tmp_path: Path) -> None:
    for name, rows in (("b", 7), ("a", 8), ("_hidden", 3)):
        write_rows(tmp_path / f"{name}.parquet", [{"image": f"{name}{i}"} for i in range(rows)], group=3)
    manifest = read_manifest(place(str(tmp_path)))
    parts = manifest.parts(6)
    assert [part.rows for part in parts] == [6, 5, 4]
    assert parts[1].groups == (("a.parquet", 2), ("b.parquet", 0))
    read = [image for part in parts for image in manifest.read(part, ["image"])["image"].to_pylist()]
    assert read == [f"a{i}" for i in range(8)] + [f"b{i}" for i in range(7)]
    assert [part.rows for part in manifest.parts(2)] == [3, 3, 2, 3, 3, 1], "a row group is never divided"


def test_a_manifest_is_known_by_its_names_rows_and_row_groups(tmp_path: Path) -> None:
    manifests = [
        write_rows(tmp_path / "1" / name, [{"image": "x"}] * rows, group=group)
        for name, rows, group in (("a.parquet", 8, 4), ("b.parquet", 8, 4), ("c.parquet", 9, 4), ("d.parquet", 8, 8))
        if not (tmp_path / "1").mkdir(exist_ok=True)
    ]
    hashes = set()
    for path in manifests:
        folder = tmp_path / path.stem
        folder.mkdir()
        path.rename(folder / path.name)
        hashes.add(read_manifest(place(str(folder))).sha256())
        assert read_manifest(place(str(folder))).sha256() in hashes
    assert len(hashes) == 4


def test_a_folder_keeps_its_plan(tmp_path: Path) -> None:
    out = place(str(tmp_path / "tags"))
    assert PLAN.keep(out) == PLAN
    later = Plan(**{**vars(PLAN), "release": "2"})
    assert later.keep(out) == PLAN, "the release of the start"
    assert PLAN.found_in(place(str(tmp_path / "new"))) is None
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="k 5 there, 3 now"):
        Plan(**{**vars(PLAN), "k": 3}).keep(out)
    (tmp_path / "tags" / "_plan.json").write_text("{}")
    with pytest.raises(InputError, match="expected the plan of a backfill"):
        read_plan(out)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    file = place(str(tmp_path)) / "part-00000.parquet"
    file.write(b"one")
    file.write(b"two")
    assert file.read() == b"two"
    (tmp_path / "_part-00000.parquet.0a.partial").write_bytes(b"half")
    (tmp_path / "_part-00001.parquet.0a.partial").write_bytes(b"another's")
    file.delete_partial()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_part-00001.parquet.0a.partial", file.path[-18:]]
    blocked = place(str(tmp_path)) / "folder"
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        blocked.write(b"x")
    assert not list(tmp_path.glob("_folder*"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": pa.string()}, "column image: expected text, found only"),
        ({"image": pa.int64()}, "column image: expected text, found int64"),
        ({"image": pa.string(), "id": pa.int64()}, "column id: expected text, found int64"),
        ({"image": pa.string(), "history": pa.string()}, "column history: expected map<string, double>, found string"),
    ],
)
def test_columns_of_other_types_are_refused(columns: dict[str, pa.DataType], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_columns(pa.schema(columns).empty_table())


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_text("no Parquet")
    for path, message in (("broken.parquet", "expected a Parquet file"), ("nothing", "found none")):
        with pytest.raises(InputError, match=message):
            read_manifest(place(str(tmp_path / path)))
    for name in ("image", "picture"):
        write_rows(tmp_path / f"{name}.parquet", [{name: "x"}], group=1)
    (tmp_path / "broken.parquet").unlink()
    with pytest.raises(InputError, match=r"picture.parquet: expected the columns \['image'\]"):
        read_manifest(place(str(tmp_path)))
    with pytest.raises(InputError, match="expected a path, or a URL"):
        place("https://example.com/pictures")


def test_pictures_are_found_beside_the_manifest_and_others_are_refused(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "stored", 1)
    photo = (tmp_path / "stored" / "photo.jpg").read_bytes()
    for source in (manifest, manifest.parent):
        root = read_manifest(place(str(source))).root
        for image in ("photo.jpg", str(tmp_path / "stored" / "photo.jpg"), f"file://{tmp_path}/stored/photo.jpg"):
            assert read_image(image, root) == photo
    for image in ("missing.jpg", "", None, "https://example.com/photo.jpg", str(tmp_path)):
        with pytest.raises(InvalidImage):
            read_image(image, root)


def test_histories_of_the_users_of_a_part(tmp_path: Path) -> None:
    rows = [("ana", "sea", 2), ("ana", "sky", 1), ("ben", "dog", 1), ("ana", "sea", 3)]
    path = write_rows(
        tmp_path / "h.parquet", [dict(zip(("user", "tag", "count"), row, strict=True)) for row in rows], group=2
    )
    table = pa.table({"image": ["1", "2", "3", "4"], "user": ["ana", None, "eve", "ben"]})
    known = with_histories(table, histories(str(path)))["history"].to_pylist()
    assert known == [[("sea", 5.0), ("sky", 1.0)], None, None, [("dog", 1.0)]]
    pq.write_table(pa.table({"user": ["ana"]}), path)
    with pytest.raises(InputError, match=r"expected the columns user \(text\), tag .*: user string"):
        histories(str(path))


def test_histories_in_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'histories.db'}"
    with Histories(url) as store:
        store.save("ana", "1", ["sea", "sky"])
        store.save("ana", "2", ["sea"])
        store.save("ben", "1", ["dog"])
    table = pa.table({"image": ["1", "2", "3"], "user": ["ana", None, "eve"]})
    known = with_histories(table, histories(url))["history"].to_pylist()
    assert [None if row is None else dict(row) for row in known] == [{"sea": 2.0, "sky": 1.0}, None, {}]
