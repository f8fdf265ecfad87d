import json
from pathlib import Path

import pytest

from deploy.local import ServerDied
from measure.kept import mark
from reliability.__main__ import SCENARIOS, main
from reliability.outcome import Check, Outcome
from reliability.report import COMMAND, read_results, results_file


def outcome(title: str, *checks: Check) -> Outcome:
    return Outcome(title=title, did=f"It was {title}.", figures={"calls | failed": "3 of 7"}, checks=checks)


def good(_: Path) -> Outcome:
    return outcome("Good", Check("it holds", True))


def bad(_: Path) -> Outcome:
    return outcome("Bad", Check("it holds", True), Check("it recovers", False))


def died(_: Path) -> Outcome:
    raise ServerDied("gone")


def interrupted(_: Path) -> Outcome:
    raise KeyboardInterrupt


ALL = {"good": good, "bad": bad, "died": died, "interrupted": interrupted}


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    model = tmp_path / "models" / "classifier" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.touch()
    return ["--repository", str(tmp_path / "models"), "--out", str(tmp_path / "docs" / "reliability.md")]


def report(tmp_path: Path) -> Path:
    return tmp_path / "docs" / "reliability.md"


def test_what_held_and_what_did_not(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bad", "good", "--full", *options], ALL) == 1
    assert "NO  it recovers" in capsys.readouterr().out
    text = report(tmp_path).read_text()
    assert "\n- **Bad** (`bad`): 1 of 2 checks held. **Not: it recovers.**\n" in text
    assert "\n- Every check held in these scenarios, with their number of checks: `good` 1.\n" in text
    assert '## <a id="bad"></a>Bad\n\nIt was Bad.\n' in text
    assert "| calls \\| failed | 3 of 7 |" in text
    assert "| it holds | yes |\n| it recovers | **NO** |" in text
    assert f".venv/bin/python -m reliability bad --repository {tmp_path / 'models'}" in text
    assert text.index('## <a id="good"></a>') < text.index('## <a id="bad"></a>'), "the scenarios' order"


def test_one_is_measured_again_and_the_rest_is_kept(options: list[str], tmp_path: Path) -> None:
    assert main(["bad", "good", *options], ALL) == 1
    path = report(tmp_path)
    path.write_text(path.read_text().replace("# Reliability", "# By hand"))
    assert main(["bad", *options], {**ALL, "bad": lambda _: outcome("Better", Check("it recovers", True))}) == 0
    text = path.read_text()
    assert text.startswith("# By hand\n")
    assert text.count(mark(COMMAND)) == 1
    assert "checks: `good` 1, `bad` 1.\n" in text, "the order is the scenarios', not the command's"


def test_an_end_keeps_what_was_finished(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["died", "good", "interrupted", "bad", *options], ALL) == 130
    assert "error: died: ServerDied: gone" in capsys.readouterr().err
    results = json.loads(report(tmp_path).with_suffix(".json").read_text())["scenarios"]
    assert list(results) == ["good"]
    assert main(["died", *options], ALL) == 1


def test_mistakes_say_what_to_do(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["better", *options], ALL)
    assert "there is no scenario better, expected good, bad, died" in capsys.readouterr().err
    assert main(["good", *options[2:], "--repository", str(tmp_path / "nothing")], ALL) == 2
    assert f"`.venv/bin/python -m export random {tmp_path / 'nothing'}` makes one" in capsys.readouterr().err
    damaged = report(tmp_path).with_suffix(".json")
    damaged.parent.mkdir()
    damaged.write_text('{"format": "another"}')
    assert main(["good", *options], ALL) == 2
    assert "its format is 'another'" in capsys.readouterr().err
    damaged.unlink()
    assert main(["--render", *options], ALL) == 2
    assert f"no results in {damaged}: run scenarios first" in capsys.readouterr().err
    assert not report(tmp_path).exists()


def test_the_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(SCENARIOS)


def test_the_summary_is_rendered_again_with_figures_only_where_asked(options: list[str], tmp_path: Path) -> None:
    assert main(["good", *options], ALL) == 0
    summary = report(tmp_path).read_text()
    assert "3 of 7" not in summary
    (date,) = {of["conditions"]["date"] for of in read_results(results_file(report(tmp_path))).values()}
    assert f"\nMeasured {date}.\n" in summary
    assert main(["--render", "--full", *options], ALL) == 0
    assert "| calls \\| failed | 3 of 7 |" in report(tmp_path).read_text()
    assert main(["--render", *options], ALL) == 0
    assert report(tmp_path).read_text() == summary
