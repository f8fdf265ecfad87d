import argparse
import json
import os
import stat
from pathlib import Path

import pytest
from altreco_client import InvalidHistory, InvalidRequest
from altreco_client.cli.history import add_parser, load_history, parse_history, read_history, run, write_history
from altreco_client.history import TagHistory


def altreco_history(*words: str | Path) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(dest="command", required=True))
    run(parser.parse_args(["history", *map(str, words)]))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_history(tmp_path / "user.json", TagHistory({"sea": 3, "beach": 1, "new york": 10}))
    return tmp_path / "user.json"


def test_show(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    altreco_history("show", file)
    assert capsys.readouterr().out == "10  new york\n 3  sea\n 1  beach\n"


def test_show_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    altreco_history("show", file, "--json")
    assert json.loads(capsys.readouterr().out) == {
        "tags": [{"name": "new york", "count": 10}, {"name": "sea", "count": 3}, {"name": "beach", "count": 1}]
    }


def test_show_of_an_empty_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_history(tmp_path / "new.json", TagHistory())
    altreco_history("show", tmp_path / "new.json")
    altreco_history("show", tmp_path / "new.json", "--json")
    assert capsys.readouterr().out == '{"tags": []}\n'


def test_add(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    altreco_history("add", file, "sea", "dog", "dog")
    assert read_history(file) == {"sea": 4, "beach": 1, "new york": 10, "dog": 1}
    assert capsys.readouterr().out == f"{file}: 4 tags\n"


def test_add_starts_a_new_history(tmp_path: Path) -> None:
    altreco_history("add", tmp_path / "new.json", "sea")
    assert (tmp_path / "new.json").read_text() == '{"counts": {"sea": 1}, "version": 1}\n'


def test_merge(file: Path, tmp_path: Path) -> None:
    write_history(tmp_path / "other.json", TagHistory({"sea": 2}))
    altreco_history("merge", file, tmp_path / "other.json")
    altreco_history("merge", file, f"@{tmp_path / 'other.json'}")
    altreco_history("merge", file, "dog:2,beach")
    assert read_history(file) == {"sea": 7, "beach": 2, "new york": 10, "dog": 2}


def test_subtract(file: Path, tmp_path: Path) -> None:
    altreco_history("subtract", file, "beach", "sea", "zeppelin")
    assert read_history(file) == {"sea": 2, "new york": 10}
    altreco_history("subtract", file, "--history", "new york:4")
    assert read_history(file) == {"sea": 2, "new york": 6}
    altreco_history("subtract", file, "--history", file)
    assert read_history(file) == {}


def test_prune(file: Path) -> None:
    altreco_history("prune", file, "--keep", "2")
    assert read_history(file) == {"sea": 3, "new york": 10}
    altreco_history("prune", file, "--min-count", "3.5")
    assert read_history(file) == {"new york": 10}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["subtract"], "expected either a picture's tags or --history"),
        (["subtract", "sea", "--history", "sea:1"], "expected either a picture's tags or --history"),
        (["prune"], "give keep, min_count or both"),
        (["prune", "--keep", "-1"], "number of tags is -1: expected"),
        (["add", " "], "expected 1 to 1,000 characters"),
        (["merge", "sea:many"], "expected TAG:COUNT"),
        (["merge", "other.json"], "no history at other.json; `altreco history add other.json TAG` starts one"),
    ],
)
def test_a_mistake_leaves_the_file_as_it_was(file: Path, words: list[str], reason: str) -> None:
    before = file.read_bytes()
    with pytest.raises(InvalidRequest, match=reason):
        altreco_history(words[0], file, *words[1:])
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize("words", [["show"], ["merge", "sea"], ["subtract", "sea"], ["prune", "--keep", "1"]])
def test_only_add_starts_a_history(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(InvalidHistory, match=r"no history at .*user.json; `altreco history add"):
        altreco_history(words[0], tmp_path / "user.json", *words[1:])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b'{"sea": 3}', b'{"version": 1, "counts": {"sea": -1}}'])
def test_a_damaged_file_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "user.json"
    file.write_bytes(content)
    with pytest.raises(InvalidHistory, match=rf"{file}: .*expected"):
        altreco_history("add", file, "sea")
    assert file.read_bytes() == content


def test_a_folder_is_no_history(tmp_path: Path) -> None:
    with pytest.raises(InvalidHistory, match="Is a directory"):
        altreco_history("show", tmp_path)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot write the history .*No such file or directory"):
        altreco_history("add", tmp_path / "missing" / "user.json", "sea")


def test_a_full_disk_leaves_the_old_history(file: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full, which stands for a full disk")
    before = file.read_bytes()
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    partial.symlink_to("/dev/full")
    with pytest.raises(InvalidRequest, match="No space left on device; it is unchanged"):
        altreco_history("add", file, "sea")
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_private_file_stays_private_and_a_link_a_link(file: Path, tmp_path: Path) -> None:
    file.chmod(0o600)
    link = tmp_path / "link.json"
    link.symlink_to(file)
    altreco_history("add", link, "sky")
    assert link.is_symlink()
    assert read_history(file)["sky"] == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_typed_histories() -> None:
    history = parse_history("sea:3, beach ,new york : 2.5,sea:1,10:30:4")
    assert history == {"sea": 4, "beach": 1, "new york": 2.5, "10:30": 4}
    assert isinstance(history["sea"], int)
    assert parse_history("") == {}


@pytest.mark.parametrize(
    "text", ["sea:many", "sea:", ":3", "sea:-1", "sea:nan", "sea:inf", "sea:" + "9" * 5000, "a\nb:1"]
)
def test_a_typed_history_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidHistory, match=r"expected (TAG:COUNT|a finite number|1 to)"):
        parse_history(text)


def test_a_file_is_a_kept_history_and_what_was_typed_is_none(file: Path) -> None:
    """Unknown tags are ignored in the one and an error in the other."""
    assert isinstance(load_history(str(file)), TagHistory)
    assert load_history(f"@{file}") == read_history(file)
    assert not isinstance(load_history("sea:3"), TagHistory)
    assert load_history("user.json:1") == {"user.json": 1}
