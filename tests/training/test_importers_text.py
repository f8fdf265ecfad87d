"""NUS-WIDE's files and the three parallel text files of the paper's authors."""

import bz2
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from training.data.dataset import EvaluationPictures
from training.data.histories import build_histories
from training.data.importers.__main__ import main
from training.data.importers.build import ImportSettings, import_data
from training.data.importers.nus_wide import NusWide
from training.data.importers.parallel_text import ParallelText
from training.data.importers.report import Report
from training.data.manifest import read_manifest
from training.errors import DataError

TRAIN = ["actor\\0001_2124494179.jpg", "actor\\0002_174174086.jpg", "zoo\\0007_300.jpg"]
TEST = ["adult\\0003_500.jpg"]
LISTED = [TRAIN[0], TEST[0], TRAIN[1], TRAIN[2]]
WORDS = ["2124494179     sea  Portrait nikon", "500  dog sea", "174174086   ", "300  nikon canon"]
MATRIX = ["1\t0\t1\t", "1\t1\t0\t", "0\t0\t0\t", "0\t1\t1\t"]
USERS = ["2124494179 20952812@N00", "500\t20952812@N00", "174174086 79644790@N00", "300 7211785@N06"]


def write(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return path


def import_nus_wide(folder: Path, share: float = 1.0, **changed: Any) -> Report:
    """The files as above but for those that are given; either `words` or `matrix`; `concepts` are labels' files."""
    concepts = changed.pop("concepts", {})
    lines = {"image_list": LISTED, "train_list": TRAIN, "test_list": TEST, "users": USERS, **changed}
    tags = "tag_matrix" if "tag_matrix" in changed else "tag_lines"
    lines = {"tag_list": ["sea", "dog", "Portrait"], tags: WORDS, **lines}
    files = {name: write(folder / f"{name}.txt", text) for name, text in lines.items()}
    for name, bits in concepts.items():
        write(folder / f"Labels_{name}.txt", bits)
    layout = NusWide(**files, labels=folder if concepts else None)
    return import_data(layout, ImportSettings(out=folder / "data", max_bad_share=share), quiet=True)


def rows(folder: Path) -> list[tuple]:
    return pl.read_parquet(folder / "data" / "manifest.parquet").rows()


def test_nus_wide_tag_lines(tmp_path: Path) -> None:
    report = import_nus_wide(tmp_path)
    assert rows(tmp_path) == [
        ("actor/0001_2124494179.jpg", "20952812@N00", ["sea", "portrait"], "train"),
        ("adult/0003_500.jpg", "20952812@N00", ["sea", "dog"], "test"),
    ]
    assert (report.lines, report.no_tags, report.no_known_tag, report.unknown_tags) == (4, 1, 1, 3)
    assert read_manifest(tmp_path / "data").vocabulary.tags == ("sea", "dog", "portrait")


def test_nus_wide_tag_matrix(tmp_path: Path) -> None:
    report = import_nus_wide(tmp_path, tag_matrix=MATRIX)
    assert rows(tmp_path) == [
        ("actor/0001_2124494179.jpg", "20952812@N00", ["sea", "portrait"], "train"),
        ("adult/0003_500.jpg", "20952812@N00", ["sea", "dog"], "test"),
        ("zoo/0007_300.jpg", "7211785@N06", ["dog", "portrait"], "train"),
    ]
    assert (report.lines, report.no_tags, report.users) == (4, 1, 2)


@pytest.mark.parametrize("line", ["1\t0", "1\t0\t1\t1", "1\t\t0", "1\t0\t7x", ""])
def test_nus_wide_matrix_lines_of_another_form_are_broken(tmp_path: Path, line: str) -> None:
    report = import_nus_wide(tmp_path, tag_matrix=[MATRIX[0], line, *MATRIX[2:]])
    assert (report.broken, report.pictures) == (1, 2)


def test_nus_wide_reasons_to_leave_a_line_out(tmp_path: Path) -> None:
    report = import_nus_wide(
        tmp_path,
        image_list=[*LISTED, "no_photo.txt", "zoo\\0008_301.jpg", "zoo\\0009_302.jpg", "zoo\\0010_2124494179.jpg"],
        tag_lines=[*WORDS, "1 sea", "301 sea", "999 sea", "2124494179 dog"],
        train_list=[*TRAIN, "zoo\\0009_302.jpg", "zoo\\0010_2124494179.jpg"],
        users=[*USERS[1:], "302 1@N00", "2124494179 1@N00", "2124494179 2@N00", "301 no id"],
    )
    assert report.broken == 2, "no photo id; tags of another photo"
    assert (report.no_split, report.duplicate, report.no_user) == (1, 1, 0)
    assert [user for _, user, *_ in rows(tmp_path)] == ["1@N00", "20952812@N00"], "the photo is there once"
    report_without = import_nus_wide(subfolder(tmp_path), users=USERS[:1])
    assert (report_without.no_user, report_without.pictures) == (3, 1)


def subfolder(folder: Path) -> Path:
    (folder / "other").mkdir()
    return folder / "other"


def test_nus_wide_users_unknown_are_not_bad_lines(tmp_path: Path) -> None:
    assert import_nus_wide(tmp_path, share=0.0, users=USERS[:1]).no_user == 3


def test_a_photo_in_both_lists_is_tested_on(tmp_path: Path) -> None:
    import_nus_wide(tmp_path, test_list=[*TEST, TRAIN[2]], tag_matrix=MATRIX)
    assert [split for *_, split in rows(tmp_path)] == ["train", "test", "test"]


def test_nus_wide_lists_of_different_length(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"different numbers of lines: .*image_list\.txt: 4, .*tag_lines\.txt: 3"):
        import_nus_wide(tmp_path, tag_lines=WORDS[:3])
    assert not (tmp_path / "data").exists()


def test_nus_wide_context_and_labels(tmp_path: Path) -> None:
    import_nus_wide(
        tmp_path,
        tag_matrix=MATRIX,
        context=["2124494179\t2009-07-01 12:30:00\t2.5\t48.5", "500\t\t2.5\t48.5", "300\tno line of four"],
        concepts={"water": ["1", "0", "1", "0"], "animal": ["1", "1", "0", "0"]},
    )
    when = datetime(2009, 7, 1, 12, 30)
    assert [row[4:] for row in rows(tmp_path)] == [
        (["animal", "water"], when, 2.5, 48.5),
        (["animal"], None, 2.5, 48.5),
        ([], None, None, None),
    ]
    labels = read_manifest(tmp_path / "data").labels
    assert labels is not None
    assert labels.names == ("animal", "water")


def test_nus_wide_labels_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Labels_b\.txt: expected 4 lines with 0 or 1, as in .*Labels_a\.txt"):
        import_nus_wide(tmp_path, concepts={"a": ["0", "1", "0", "1"], "b": ["0", "1", "0", "2"]})
    with pytest.raises(DataError, match=r"different numbers of lines: .*image_list\.txt: 4"):
        import_nus_wide(subfolder(tmp_path), concepts={"a": ["0", "1", "0"]})
    with pytest.raises(DataError, match=r"no Labels_\*\.txt in .*: expected NUS-WIDE's folder"):
        NusWide(
            **dict.fromkeys(
                ("tag_list", "tag_lines", "image_list", "train_list", "test_list", "users", "labels"), tmp_path / "x"
            )
        )


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_any_line_end_ends_a_line(tmp_path: Path, end: str) -> None:
    """Also the carriage return alone of old Macs, in files that end without one."""
    columns = [["0.jpg", "1.jpg", "2.jpg"], ["sea sky", "Sky", "sea"], ["u0", "u1", "u2"]]
    files = []
    for i, lines in enumerate([*columns, ["sea", "sky"]]):
        files.append(tmp_path / f"{i}.txt")
        files[-1].write_bytes(end.join(lines).encode())
    layout = ParallelText(train=tuple(files[:3]), vocabulary_file=files[3])
    report = import_data(layout, ImportSettings(out=tmp_path / "data"), quiet=True)
    assert rows(tmp_path) == [
        ("0.jpg", "u0", ["sea", "sky"], "train"),
        ("1.jpg", "u1", ["sky"], "train"),
        ("2.jpg", "u2", ["sea"], "train"),
    ]
    assert report.lines == 3


def test_parallel_text_context(tmp_path: Path) -> None:
    context = ["2012-02-16 09:56:37\t-0.5\t51.5", "", "\t\t"]
    report = import_parallel(tmp_path, (IMAGES, ["sea"] * 3, ["1@N00"] * 3, context))
    assert [row[4:] for row in rows(tmp_path)] == [
        (datetime(2012, 2, 16, 9, 56, 37), -0.5, 51.5),
        *[(None, None, None)] * 2,
    ]
    assert (report.without_date, report.without_place, report.broken) == (2, 2, 0)
    report = import_parallel(subfolder(tmp_path), (IMAGES, ["sea"] * 3, ["1@N00"] * 3, [context[0], "2012 3 4", ""]))
    assert report.broken == 1


def test_a_prefix_is_removed_at_the_start_alone(tmp_path: Path) -> None:
    images = [f"{PREFIX}a/1.jpg", f"b{PREFIX}2.jpg"]
    import_parallel(tmp_path, (images, ["sea"] * 2, ["1@N00"] * 2))
    assert [row[0] for row in rows(tmp_path)] == ["a/1.jpg", f"b{PREFIX}2.jpg"]


def test_nus_wide_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"--tag-list": ["sea", "dog", "portrait"], "--tag-matrix": MATRIX, "--image-list": LISTED}
    files |= {"--train-list": TRAIN, "--test-list": TEST, "--users": USERS}
    options = [text for name, lines in files.items() for text in (name, str(write(tmp_path / name, lines)))]
    assert main(["nus-wide", *options, "--out", str(tmp_path / "data")]) == 0
    assert len(rows(tmp_path)) == 3
    capsys.readouterr()


PREFIX = "/home/authors/data/"
IMAGES = [f"{PREFIX}actor/0006_2171575576.jpg", f"{PREFIX}adult/0066_1006906272.jpg", f"{PREFIX}adult/0312_143.jpg"]


def parallel_files(folder: Path, name: str, *columns: list[str]) -> tuple[Path, ...]:
    return tuple(
        write(folder / f"{name}{kind}.txt", lines)
        for kind, lines in zip(("imgs", "tags", "usrs", "when"), columns, strict=False)
    )


def import_parallel(folder: Path, train: tuple[list[str], ...], *test: list[str], images: Path | None = None) -> Report:
    layout = ParallelText(
        train=parallel_files(folder, "train", *train),
        test=parallel_files(folder, "test", *test),
        vocabulary_file=write(folder / "tags.txt", ["sea", "dog", "american+flag"]),
        strip_prefix=PREFIX,
    )
    settings = ImportSettings(out=folder / "data", images=images, max_bad_share=1.0)
    return import_data(layout, settings, quiet=True)


def test_parallel_text(tmp_path: Path) -> None:
    train = (IMAGES, ["sea Sea american+flag R8323:Object=outdoor", "", "\tdog"], ["1@N00", "2@N00", "3@N00"])
    report = import_parallel(tmp_path, train, ["new/1_2.jpg"], ["sea dog"], ["1@N00"])
    assert rows(tmp_path) == [
        ("new/1_2.jpg", "1@N00", ["sea", "dog"], "test"),
        ("actor/0006_2171575576.jpg", "1@N00", ["sea", "american+flag"], "train"),
        ("adult/0312_143.jpg", "3@N00", ["dog"], "train"),
    ]
    assert (report.lines, report.no_tags, report.unknown_tags, report.users) == (4, 1, 1, 2)


def test_test_pictures_may_come_without_users(tmp_path: Path) -> None:
    import_parallel(tmp_path, (IMAGES, ["sea"] * 3, ["1@N00"] * 3), ["x.jpg"], ["sea"])
    assert rows(tmp_path)[0] == ("x.jpg", "", ["sea"], "test")
    assert read_manifest(tmp_path / "data").rows("test").tolist() == [0]


def test_parallel_text_reasons_to_leave_a_line_out(tmp_path: Path) -> None:
    images = [*IMAGES, "", IMAGES[0], "x.jpg"]
    users = ["1@N00", "", "1@N00", "1@N00", "1@N00", "1@N00"]
    report = import_parallel(tmp_path, (images, ["sea"] * 6, users), ["x.jpg"], ["dog"])
    assert (report.broken, report.duplicate, report.pictures) == (2, 2, 3)
    assert rows(tmp_path)[0] == ("x.jpg", "", ["dog"], "test"), "what is tested on is not trained on"


def test_pictures_are_read_from_where_they_are_and_from_nowhere_else(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for picture in (photos / "in.png", tmp_path / "out.png"):
        Image.new("RGB", (8, 8)).save(picture)
    names = ["in.png", str(tmp_path / "out.png"), "../out.png"]
    report = import_parallel(tmp_path, (names, ["sea"] * 3, ["1@N00"] * 3), images=photos)
    assert (report.pictures, report.missing_image) == (1, 2)
    manifest = read_manifest(tmp_path / "data")
    pictures = EvaluationPictures(manifest, build_histories(manifest), np.array([0]))
    assert pictures[0][0].shape == (224, 224, 3)


@pytest.mark.parametrize("short", [0, 1, 2])
def test_parallel_files_of_different_length(tmp_path: Path, short: int) -> None:
    columns = [IMAGES, ["sea"] * 3, ["1@N00"] * 3]
    columns[short] = columns[short][:2]
    with pytest.raises(DataError, match=r"different numbers of lines: .*trainimgs\.txt: \d.*: \d.*: \d"):
        import_parallel(tmp_path, tuple(columns))
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "data.partial").exists()


def test_one_damaged_file_of_three(tmp_path: Path) -> None:
    images, tags, users = parallel_files(tmp_path, "train", IMAGES, ["sea"] * 3, ["1@N00"] * 3)
    packed = tmp_path / "tags.bz2"
    packed.write_bytes(bz2.compress(tags.read_bytes())[:-10])
    layout = ParallelText(train=(images, packed, users), vocabulary_file=write(tmp_path / "tags.txt", ["sea"]))
    with pytest.raises(DataError, match=r"cannot read .*tags\.bz2"):
        import_data(layout, ImportSettings(out=tmp_path / "data"), quiet=True)


def test_parallel_text_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = parallel_files(tmp_path, "train", IMAGES, ["sea"] * 3, ["1@N00"] * 3)
    options = ["--train", *map(str, train), "--vocabulary", str(write(tmp_path / "tags.txt", ["sea"]))]
    assert main(["parallel-text", *options, "--out", str(tmp_path / "data")]) == 0
    assert len(rows(tmp_path)) == 3
    assert main(["parallel-text", *options, "--test", str(train[0]), "--out", str(tmp_path / "other")]) == 1
    assert "expected images, tags and users" in capsys.readouterr().err
