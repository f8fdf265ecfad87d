import os
import signal
import sys
from pathlib import Path

import pytest

from export.config import check_repository, check_vocabulary_size, read_config, released_version
from export.errors import ConfigError, ExportError, VocabularyError
from export.init import init_repository
from tests.export.test_config import copy_variants, edit
from tests.tiny import REPOSITORY


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return copy_variants(tmp_path / "model_repository")


def vocabulary(folder: Path, tags: int) -> Path:
    path = folder / f"{tags}.txt"
    path.write_text("".join(f"tag-{i}\n" for i in range(tags)))
    return path


def configs(repository: Path) -> dict[str, str]:
    return {str(path.relative_to(repository)): path.read_text() for path in repository.rglob("*.pbtxt")}


def test_configs_differ_in_the_size_of_the_vocabulary_only(tmp_path: Path) -> None:
    made = tmp_path / "made"
    init_repository(made, vocabulary(tmp_path, 60), like=REPOSITORY)
    check_repository(made)
    check_vocabulary_size(made, 60)
    assert released_version(made) is None
    assert (made / "classifier" / "tags.txt").read_text() == (tmp_path / "60.txt").read_text()
    expected = configs(REPOSITORY)
    assert expected.pop("tag_recommender/config.pbtxt")
    found = configs(made)
    assert "dims: 60\n" in found.pop("tag_recommender/config.pbtxt")
    assert found == {name: text.replace("1540", "60") for name, text in expected.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["60.txt", "made"]


def test_tuning_and_comments_stay(tmp_path: Path, repository: Path) -> None:
    path = repository / "preference_encoder" / "config.pbtxt"
    edit(path, "batching { }", "batching {\n  max_queue_delay_microseconds: 1540  # 1540, not 1541\n}")
    init_repository(tmp_path / "made", vocabulary(tmp_path, 60), like=repository)
    text = (tmp_path / "made" / "preference_encoder" / "config.pbtxt").read_text()
    assert "\n  max_queue_delay_microseconds: 1540  # 1540, not 1541\n" in text
    assert text.count("1540") == 2


def test_a_size_that_other_fields_have_too(tmp_path: Path) -> None:
    init_repository(tmp_path / "128", vocabulary(tmp_path, 128), like=REPOSITORY)
    init_repository(tmp_path / "60", vocabulary(tmp_path, 60), like=tmp_path / "128")
    init_repository(tmp_path / "again", tmp_path / "60.txt", like=tmp_path / "60")
    direct = tmp_path / "direct"
    init_repository(direct, tmp_path / "60.txt", like=REPOSITORY)
    assert configs(tmp_path / "60") == configs(tmp_path / "again") == configs(direct)
    assert list(read_config(direct, "preference_encoder").output[0].dims) == [128]


def test_a_size_in_another_notation_is_refused(tmp_path: Path, repository: Path) -> None:
    edit(repository / "classifier" / "config.pbtxt", "[ 1540 ]", "[ 0x604 ]")
    check_repository(repository)
    with pytest.raises(
        ConfigError, match=r"classifier/config\.pbtxt: dims of the vocabulary: expected 1540 as a plain"
    ):
        init_repository(tmp_path / "made", vocabulary(tmp_path, 60), like=repository)
    assert not (tmp_path / "made").exists()


def test_configs_that_do_not_fit_are_not_copied(tmp_path: Path, repository: Path) -> None:
    edit(repository / "classifier" / "configs" / "gpu.pbtxt", "[ 1540 ] label", "[ 1541 ] label")
    with pytest.raises(ConfigError, match=r"gpu\.pbtxt: output: expected .*1540.* found .*1541"):
        init_repository(tmp_path / "made", vocabulary(tmp_path, 60), like=repository)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sea\n\nsky\n", "line 2: expected a tag, found an empty line"),
        (b"sea\n \n", "line 2: expected a tag"),
        (b"", "line 1: expected a tag"),
        (b"sea\nsky\ndog\nsky\n", "line 4: expected each tag once, found 'sky' as in line 2"),
        (b"sea\n sky\n", "line number 2, tag ' sky': expected 'sky', without white space"),
        ("sea\ncafe\u0301\n".encode(), "line number 2, tag .*: expected .* Unicode form NFC"),
        (b"sea\n\xef\xbb\xbfsky\n", "line number 2, tag .* without control characters, byte order marks"),
        (b"sea\rsky\ndog\n", r"line number 1, tag 'sea\\rsky': expected 1 to 1,000 characters on one line"),
        (b"sea\n\xff\n", "cannot read the vocabulary .* expected UTF-8, one tag per line"),
        (None, "cannot read the vocabulary .*No such file"),
    ],
)
def test_a_vocabulary_with_an_error_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "vocabulary.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VocabularyError, match=message):
        init_repository(tmp_path / "made", path, like=REPOSITORY)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tags_are_utf_8_and_the_last_line_may_be_open(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(f"{mark}caf\u00e9\r\nnew york".encode())  # as some editors write
    init_repository(tmp_path / "made", path, like=REPOSITORY)
    assert (tmp_path / "made" / "classifier" / "tags.txt").read_bytes() == "caf\u00e9\nnew york\n".encode()
    check_vocabulary_size(tmp_path / "made", 2)


def test_only_a_new_or_an_empty_directory_is_taken(tmp_path: Path) -> None:
    tags = vocabulary(tmp_path, 60)
    made = tmp_path / "made"
    made.mkdir()
    init_repository(made, tags, like=REPOSITORY)
    before = configs(made)
    for taken in (made, tags):
        with pytest.raises(ExportError, match=f"{taken} exists: expected a new or an empty directory"):
            init_repository(taken, tags, like=REPOSITORY)
    assert configs(made) == before
    with pytest.raises(ExportError, match=r"cannot write .*60\.txt/made: .*; nothing was made"):
        init_repository(tags / "made", tags, like=REPOSITORY)
    with pytest.raises(ExportError, match=r"cannot write /proc/made: "):
        init_repository(Path("/proc/made"), tags, like=REPOSITORY)


def test_killed_at_any_step_it_leaves_nothing_that_looks_like_a_repository(tmp_path: Path) -> None:
    tags, made = vocabulary(tmp_path, 60), tmp_path / "made"
    step = 0
    while killed_at(step, made, tags):
        assert not made.exists(), f"killed at step {step}"
        step += 1
    assert step > 12, "9 configs, 2 more files, their folders and the rename"
    check_repository(made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["60.txt", "made"]


def killed_at(step: int, directory: Path, tags: Path) -> bool:
    """Run it in a process that is killed at this change of the file system; False when there were not so many."""
    child = os.fork()
    if child == 0:
        left = step

        def kill(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in {"os.mkdir", "os.rename"} or (event == "open" and arguments[1] == "w"):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        try:
            sys.addaudithook(kill)
            init_repository(directory, tags, like=REPOSITORY)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False
