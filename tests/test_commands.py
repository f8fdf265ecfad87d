"""Every `python -m` command: its help, and output that nobody reads to its end."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from altreco_client.cli.pipe import READER_LEFT

from tests.test_architecture import ROOT, modules

CHILDREN = {
    "benchmark.peers.busy",
    "benchmark.peers.litserve.server",
    "benchmark.peers.raw",
    "deploy.local.tied",
    "loadtest.run.canned",
    "loadtest.run.master",
    "loadtest.run.worker",
    "reliability.asking",
    "training.ablation.study",
}
"""Programs that a command starts for itself."""

COMMANDS = sorted(
    name.removesuffix(".__main__")
    for name, path in modules(ROOT).items()
    if not name.startswith("tests.") and '__name__ == "__main__"' in path.read_text() and name not in CHILDREN
)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_command_and_does_nothing_else(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "--help"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        runpy.run_module(command, run_name="__main__")
    assert done.value.code == 0
    name = "altreco" if command == "altreco_client" else f"python -m {command}"
    assert capsys.readouterr().out.startswith(f"usage: {name} ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "altreco_client --help",
        "deploy.local --help",
        "deploy.monitoring.prometheus_rule",
        "export list",
        "loadtest.scale",
        "training.data.importers --help",
    ],
)
def test_a_reader_who_stops_early_ends_a_command_quietly(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    # argparse itself swallows an error in writing the help, if stdout has no buffer.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=ROOT,
            env=environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (READER_LEFT, "")
