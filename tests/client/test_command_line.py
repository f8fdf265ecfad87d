"""The `altreco` command without a server."""

import re
from pathlib import Path

import altreco_client
import pytest
from altreco_client import UnknownTag, Vocabulary, tag_counts
from altreco_client.__main__ import main
from altreco_client.cli.wording import OPTIONS, in_options
from altreco_client.errors import SIGNS
from PIL import Image

PYTHON = re.compile(r"[a-z]_[a-z]|\(\.\.\.\)|Channel|TagHistory|=\"")
"""Names of Python, which nobody can type on a command line."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with photo.png and a damaged history, and no server."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (300, 300)).save("photo.png")
    Path("user.json").write_text('{"counts": {"sea": 1}, "version": 1}')
    Path("damaged.json").write_text("{")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("recommend photo.png --deadline-s 0", "--deadline-s is 0.0: expected seconds above zero"),
        ("recommend photo.png --certificate own.pem", "--certificate and --key belong together"),
        ("recommend photo.png --request-id two\nlines", "--request-id 'two\\nlines': expected 1 to 128"),
        ("recommend https://example.org/photo.png", "it is a URL, and URLs are not fetched"),
        ("history prune user.json", "give --keep, --min-count or both"),
        ("history prune user.json --min-count -1", "--min-count is -1.0: expected"),
        ("history show damaged.json", "expected a file that `altreco history` wrote"),
    ],
)
def test_messages_name_the_options(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split(" ")) == 1
    said = capsys.readouterr().err
    assert message in said
    assert not PYTHON.search(said)


@pytest.mark.parametrize("advice", sorted({sign[-1] for sign in SIGNS}))
def test_advice_about_servers_names_the_options(advice: str) -> None:
    assert not PYTHON.search(in_options(advice.format(deadline_s=5, waited_s=2)))


def test_an_unknown_tag_names_the_option_here_and_the_argument_in_python() -> None:
    with pytest.raises(UnknownTag, match='pass unknown_tags="ignore" to leave') as raised:
        tag_counts({"zeppelin": 1}, Vocabulary(("sea",)))
    assert "pass --unknown-tags ignore to leave" in in_options(raised.value)


@pytest.mark.parametrize("phrase", OPTIONS)
def test_each_phrase_is_one_of_the_clients(phrase: str) -> None:
    sources = Path(altreco_client.__file__).parent.rglob("*.py")
    assert any(phrase in source.read_text() for source in sources if source.name != "wording.py")


def test_help_keeps_the_example_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["history", "--help"])
    assert "\n\n    altreco history add user.json sea beach\n    altreco history export " in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert re.fullmatch(r"altreco-client \d+\.\d+\.\d+\n", capsys.readouterr().out)
