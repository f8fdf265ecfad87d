"""What all importers share, shown on YFCC100M's layouts: each reason to leave a line out, the stop, bad input."""

import bz2
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from PIL import Image
from tqdm import tqdm

from training.data.importers.__main__ import main
from training.data.importers.build import ImportSettings, import_data
from training.data.importers.lines import read_lines
from training.data.importers.report import Report
from training.data.importers.yfcc100m import Yfcc100m
from training.data.manifest import read_manifest
from training.errors import DataError

FILTERS = ("decode", "min_tags_train", "min_tags_test", "with_context_only")
TAGS = "sea\nblack+and+white\nclose+up\ncloseup\ncaf%C3%A9\n"
URL = "http://farm8.staticflickr.com/7205/{}_df86ba9ee0.jpg"


def line(
    photo: object,
    user: str = "1@N00",
    tags: str = "sea",
    marker: object = 0,
    *,
    columns: int = 25,
    taken: str = "null",
    place: tuple[object, object] = ("", ""),
) -> str:
    """A line of either layout; columns that are not read hold their name."""
    before = ["nick", taken, "uploaded", "device", "title", "description"]
    after = ["machine:tag=sea", *map(str, place), "16", "page", URL.format(photo), "license", "license URL", "server"]
    rest = [*before, tags, *after, "farm", "secret", "original", "jpg", str(marker)]
    first = [str(photo), user] if columns == 23 else ["7", str(photo), "hash", user]
    return "\t".join([*first, *rest])


def import_lines(
    folder: Path, *lines: str, images: Path | None = None, share: float = 1.0, **options: object
) -> Report:
    """Import the lines to `folder`/data."""
    (folder / "tags.txt").write_text(TAGS)
    (folder / "lines.txt").write_text("".join(f"{text}\n" for text in lines))
    own = {name: options.pop(name) for name in FILTERS if name in options}
    options = {"metadata": (folder / "lines.txt",), "vocabulary_file": folder / "tags.txt", **options}
    settings = ImportSettings(out=folder / "data", images=images, max_bad_share=share, **own)
    return import_data(Yfcc100m(**options), settings, quiet=True)


def rows(folder: Path) -> list[tuple]:
    return pl.read_parquet(folder / "data" / "manifest.parquet").rows()


@pytest.mark.parametrize("columns", [23, 25])
def test_both_layouts_give_a_data_set(tmp_path: Path, columns: int) -> None:
    tagged = line(11, "1@N00", "Black+And+White,sea,nikon+d90,caf%C3%A9,sea", columns=columns)
    report = import_lines(tmp_path, tagged, line(12, "2@N00", columns=columns), image="images/{id}.jpg")
    assert rows(tmp_path) == [
        ("images/11.jpg", "1@N00", ["sea", "black and white", "caf\u00e9"], "train", URL.format(11)),
        ("images/12.jpg", "2@N00", ["sea"], "train", URL.format(12)),
    ]
    manifest = read_manifest(tmp_path / "data")
    assert manifest.vocabulary.tags == ("sea", "black and white", "close up", "closeup", "caf\u00e9")
    assert (report.lines, report.pictures, report.users, report.unknown_tags) == (2, 2, 2, 1)
    assert json.loads((tmp_path / "data" / "import_report.json").read_text())["pictures"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "lines.txt", "tags.txt"]


def test_blanks_in_a_tag_count(tmp_path: Path) -> None:
    import_lines(tmp_path, line(1, tags="close+up"), line(2, tags="closeup"))
    assert [tags for _, _, tags, *_ in rows(tmp_path)] == [["close up"], ["closeup"]]


def test_each_reason_to_leave_a_line_out_is_counted(tmp_path: Path) -> None:
    broken = ["", "1\ttoo few columns", line("no number"), line(2, user=""), line(3, marker="x")]
    left_out = [
        line(4, marker=1),
        line(5, tags=""),
        line(6, tags=",,"),
        line(7, tags="unheard-of,%ff"),
        line(8),
        line(8),
    ]
    report = import_lines(tmp_path, line(8, tags="closeup"), *broken, *left_out)
    assert report.broken == 5
    assert (report.video, report.no_tags, report.no_known_tag, report.duplicate) == (1, 2, 1, 2)
    assert report.unknown_tags == 2, "a tag that cannot be decoded is an unknown one"
    assert [tags for _, _, tags, *_ in rows(tmp_path)] == [["closeup"]], "of duplicates the first line stays"
    assert report.lines == 12 == report.pictures + 5 + 1 + 2 + 1 + 2


def test_images_are_looked_at(tmp_path: Path) -> None:
    images = tmp_path / "photos"
    images.mkdir()
    Image.new("RGB", (8, 8)).save(images / "1.jpg")
    (images / "2.jpg").write_bytes(b"<html>This photo is no longer available</html>")
    (images / "3.jpg").mkdir()
    Image.new("1", (10_000, 9_000)).save(images / "4.jpg", format="PNG")
    Image.new("F", (8, 8)).save(images / "5.jpg", format="TIFF")  # training refuses these two
    Image.new("1", (8, 8)).save(images / "6.jpg", format="TIFF", compression="group4")
    report = import_lines(tmp_path, *(line(photo) for photo in range(1, 8)), images=images)
    assert (report.pictures, report.no_image, report.missing_image) == (1, 5, 1)
    manifest = read_manifest(tmp_path / "data")
    with Image.open(manifest.root / manifest.images[0]) as image:
        assert image.size == (8, 8)


def test_only_decoding_finds_a_cut_off_image(tmp_path: Path) -> None:
    images = tmp_path / "photos"
    images.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for photo in (1, 2):
        Image.fromarray(noise).save(images / f"{photo}.jpg")
    (images / "2.jpg").write_bytes((images / "1.jpg").read_bytes()[:2000])
    for decode, found in ((False, (2, 0, 1)), (True, (1, 1, 1))):
        folder = tmp_path / str(decode)
        folder.mkdir()
        report = import_lines(folder, *map(line, (1, 2, 3)), images=images, decode=decode)
        assert (report.pictures, report.no_image, report.missing_image) == found


@pytest.mark.parametrize("columns", [23, 25])
def test_date_and_place_are_kept_where_they_are_possible(tmp_path: Path, columns: int) -> None:
    taken, place = "2012-02-16+09:56:37.0", (-0.1276, 51.5072)
    dates = [taken, "2012-02-16 09%3A56%3A37.0", "null", "", "0000-00-00+00:00:00", "1970-01-01 00:00:00.0", "2038-1-1"]
    places = [("", 51.5), (181, 51.5), (0.0, -90.5), ("nan", 1), ("null", "null"), (-180, 90)]
    lines = [line(i, taken=date, place=place, columns=columns) for i, date in enumerate(dates)]
    lines += [line(100 + i, taken=taken, place=where, columns=columns) for i, where in enumerate(places)]
    report = import_lines(tmp_path, *lines)
    table = pl.read_parquet(tmp_path / "data" / "manifest.parquet")
    when = datetime(2012, 2, 16, 9, 56, 37)
    assert table["taken"].to_list() == [when, when, *[None] * 5, *[when] * 6]
    assert table.select("longitude", "latitude").rows() == [*[place] * 7, *[(None, None)] * 5, (-180.0, 90.0)]
    assert (report.pictures, report.without_date, report.without_place) == (13, 5, 5)
    context = read_manifest(tmp_path / "data").context
    assert context is not None
    assert context.has_time.sum() == 8


def test_the_filters_of_the_published_comparison(tmp_path: Path) -> None:
    taken, place = "2012-02-16 09:56:37.0", (1, 2)
    (tmp_path / "ids.txt").write_text("3\n4\n")
    lines = [line(1, tags="sea,sea,nikon"), line(2, tags="sea,closeup", taken=taken, place=place)]
    lines += [
        line(3, tags="sea,closeup"),
        line(4, tags="sea,closeup,close+up"),
        line(5, tags="closeup,sea", taken=taken),
    ]
    limits = {"min_tags_train": 2, "min_tags_test": 3, "test_ids": tmp_path / "ids.txt"}
    report = import_lines(tmp_path, *lines, **limits)
    assert [(image, split) for image, *_, split, _, _, _, _ in rows(tmp_path)] == [
        ("2.jpg", "train"),
        ("4.jpg", "test"),
        ("5.jpg", "train"),
    ]
    assert (report.few_tags, report.no_context) == (2, 0)
    (tmp_path / "strict").mkdir()
    report = import_lines(tmp_path / "strict", *lines, **limits, with_context_only=True)
    assert [image for image, *_ in rows(tmp_path / "strict")] == ["2.jpg"]
    assert (report.few_tags, report.no_context, report.pictures) == (2, 2, 1)


def test_tags_of_another_case_or_unicode_form_are_the_same_and_counted(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("Sea\ncafe%CC%81\nsky\n")
    tags = ["sea,caf%C3%A9", "SEA,Cafe%CC%81,Nikon"]
    report = import_lines(
        tmp_path, line(1, tags=tags[0]), line(2, tags=tags[1]), vocabulary_file=tmp_path / "other.txt"
    )
    assert [row[2] for row in rows(tmp_path)] == [["sea", "caf\u00e9"]] * 2
    assert (report.changed_tags, report.changed_vocabulary, report.unknown_tags) == (2, 2, 1)


def test_too_many_bad_lines_stop_the_import(tmp_path: Path) -> None:
    good = [line(photo) for photo in range(19)]
    with pytest.raises(DataError, match=r"2 of 21 lines are bad \(broken line: 2, .* begins 'torn line'"):
        import_lines(tmp_path, *good, "torn line", "another", share=0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt", "tags.txt"], "nothing is left behind"
    assert import_lines(tmp_path, *good, "torn line", share=0.05).broken == 1, "the limit itself is allowed"


def test_missing_images_are_bad_lines_too(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        DataError, match=r"2 of 3 lines are bad .*image not found: 2.*; the first of these images is '.*\.jpg'"
    ):
        import_lines(tmp_path, line(1), line(2), line(3, tags=""), images=tmp_path / "photos", share=0.5)


def test_parts_of_both_kinds_are_read_as_one(tmp_path: Path) -> None:
    """A part may end without a line feed, and may consist of several bzip2 streams."""
    packed = tmp_path / "part-1.bz2"
    packed.write_bytes(bz2.compress(f"{line(2)}\n{line(3)}".encode()) + bz2.compress(f"\r\n{line(4)}".encode()))
    (tmp_path / "part-0").write_text(line(1))
    (tmp_path / "part-2").write_text("")
    parts = tuple(tmp_path / f"part-{name}" for name in ("0", "1.bz2", "2"))
    report = import_lines(tmp_path, metadata=parts)
    assert [image for image, *_ in rows(tmp_path)] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert report.lines == 4


def test_a_character_may_fall_on_the_edge_of_two_blocks(tmp_path: Path) -> None:
    tag = "\u00e9" * 1_500_000
    report = import_lines(tmp_path, line(1, tags=f"{tag},sea"), line(2, tags="sea\0,closeup"))
    assert [tags for _, _, tags, *_ in rows(tmp_path)] == [["sea"], ["sea", "closeup"]]
    assert (report.lines, report.unknown_tags) == (2, 1)


def test_listed_photos_are_the_test_split(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("2\n4\n4\n99\n")
    import_lines(tmp_path, *(line(photo) for photo in range(1, 6)), test_ids=tmp_path / "ids.txt")
    assert [split for *_, split, _ in rows(tmp_path)] == ["train", "test", "train", "test", "train"]


def test_a_share_is_the_test_split_whatever_else_is_in_the_file(tmp_path: Path) -> None:
    import_lines(tmp_path, *(line(photo) for photo in range(1000)), test_share=0.2)
    test = {image for image, *_, split, _ in rows(tmp_path) if split == "test"}
    assert 150 < len(test) < 250
    (tmp_path / "half").mkdir()
    import_lines(tmp_path / "half", *(line(photo) for photo in range(999, 499, -1)), test_share=0.2)
    half = {image for image, *_, split, _ in rows(tmp_path / "half") if split == "test"}
    assert half == {image for image in test if int(image[:-4]) >= 500}


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tags.txt").write_text(TAGS)
    (tmp_path / "lines.txt").write_text(f"{line(1)}\n{line(2)}\n")
    options = ["--vocabulary", str(tmp_path / "tags.txt"), "--test-share", "0", "--out", str(tmp_path / "data")]
    command = ["yfcc100m", str(tmp_path / "lines.txt"), *options]
    assert main(command) == 0
    assert "pictures written                                      2" in capsys.readouterr().out
    assert main(command) == 1
    assert f"error: {tmp_path}/data exists: remove it" in capsys.readouterr().err


def test_a_file_that_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"x" * 20_000_000)
    with pytest.raises(DataError, match=r"disk\.img has a line of more than 4,194,304 bytes"):
        import_lines(tmp_path, metadata=(tmp_path / "disk.img",))


@pytest.mark.parametrize("seed", range(3))
def test_every_line_arrives_whatever_is_in_it(tmp_path: Path, seed: int) -> None:
    """Bytes at random, many of them line ends, quotes and what separates columns elsewhere; and long lines."""
    rng = np.random.default_rng(seed)
    alphabet = np.frombuffer(b"\n\n\n\r\t\"'\\,;|:#\0\x1f\xc3\xa9\xff ab", dtype=np.uint8)
    text = rng.choice(alphabet, 50_000).tobytes() + b"\n" + b"x" * 4_000_000 + b"\n\n" + b"\xff" * 1_300_000
    (tmp_path / "odd.txt").write_bytes(text)
    with read_lines([tmp_path / "odd.txt"], tqdm(disable=True)) as lines, duckdb.connect() as database:
        found = [line for (line,) in database.execute(f"SELECT line FROM {lines.table}").fetchall()]
    text = text.translate(None, b"\0\x1f").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    expected = text.decode("utf-8", "replace").split("\n")
    assert found == expected
    assert lines.count == len(expected)


@pytest.mark.parametrize("content", [b"no bzip2", bz2.compress(line(1).encode() * 100)[:-20]])
def test_damaged_bz2(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "part.bz2").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*part\.bz2"):
        import_lines(tmp_path, metadata=(tmp_path / "part.bz2",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metadata": (Path("nowhere.bz2"),)}, "no file at nowhere.bz2"),
        ({"vocabulary_file": Path("nowhere.txt")}, "cannot read nowhere.txt"),
        ({"test_ids": Path("nowhere.txt")}, "cannot read nowhere.txt"),
        ({"test_share": 1.0}, "test share 1.0: expected"),
        ({"image": "images/"}, "expected {id} in it"),
        ({"images": Path("nowhere")}, "no folder of images at nowhere"),
        ({"share": -0.1}, "max bad share -0.1: expected 0 to 1"),
        ({"min_tags_test": 0}, "min tags test 0: expected 1 or more"),
        ({"decode": True}, "give their folder with --images"),
        ({"with_context_only": True}, "no picture has both a date and a place"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        import_lines(tmp_path, line(1), **options)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("tags", "message"), [("\n \n", "is empty"), ("sea\nSea\n", "1 repeated")])
def test_vocabularies_that_are_none(tmp_path: Path, tags: str, message: str) -> None:
    (tmp_path / "other.txt").write_text(tags)
    with pytest.raises(DataError, match=message):
        import_lines(tmp_path, line(1), vocabulary_file=tmp_path / "other.txt")


@pytest.mark.parametrize("lines", [[], [line(1, tags="")]])
def test_nothing_to_train_on(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        import_lines(tmp_path, *lines)
    assert not (tmp_path / "data").exists()


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    for name in ("data", "data.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "diary.txt").write_text("mine")
        with pytest.raises(DataError, match=f"{name} exists"):
            import_lines(tmp_path, line(1))
        assert (tmp_path / name / "diary.txt").read_text() == "mine"
        (tmp_path / name / "diary.txt").unlink()
        (tmp_path / name).rmdir()


def test_a_killed_import_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "data.partial").mkdir()
    (tmp_path / "data.partial" / "import.duckdb").write_bytes(b"unfinished")
    assert import_lines(tmp_path, line(1)).pictures == 1


def test_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands in for it: the writes fail in the same way."""
    (tmp_path / "tags.txt").write_text(TAGS)
    (tmp_path / "lines.txt").write_text("".join(f"{line(photo)}\n" for photo in range(20_000)))
    options = ["--vocabulary", str(tmp_path / "tags.txt"), "--test-share", "0", "--out", str(tmp_path / "data")]
    command = [sys.executable, "-m", "training.data.importers", "yfcc100m", str(tmp_path / "lines.txt"), *options]
    limited = ["sh", "-c", 'ulimit -f 200; exec "$@"', "sh", *command]  # blocks of 512 bytes
    result = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "error: the import stopped" in result.stderr
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt", "tags.txt"]
