"""Commands as the documentation prints them: lines indented by four spaces."""

import functools
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from contextlib import chdir, redirect_stdout
from pathlib import Path
from string import Template

import pytest

from export.__main__ import main as export
from tests.tools import path_with_environment, require

ROOT = Path(__file__).parents[2]
NEVER_RUN = "# *"
"""Ends a command that needs a cluster, a container engine or several GPUs."""
PYTHON = ".venv/bin/python -m "
EXPORT = f"{PYTHON}export "
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The commands of a document, without what a report renders; a backslash at a line's end continues the command."""
    by_hand = FENCED.sub("", text.partition("<!-- Above: written by hand")[0])
    lines = re.sub(r"\\\n\s*", "", by_hand).splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


def run(command: str, folder: Path = ROOT, codes: tuple[int, ...] = (0,), **variables: object) -> str:
    """Run a command in bash and return what it printed; it must end with one of the exit codes."""
    if command.startswith("kubectl"):
        require("kubectl")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path_with_environment()} | {name: str(value) for name, value in variables.items()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in codes, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def program(*command: object, folder: Path = ROOT) -> str:
    """Run a program without a shell and return what it printed; it must end well."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def run_here(command: str, folder: Path = ROOT, codes: tuple[int, ...] = (0,), **variables: object) -> str:
    """Run a command of `export` as `run` does, but in this process: one of its own takes seconds to import torch."""
    words = Template(command.removeprefix(EXPORT)).substitute({name: str(value) for name, value in variables.items()})
    with chdir(folder), redirect_stdout(io.StringIO()) as said:
        code = export(shlex.split(words, comments=True))
    assert code in codes, f"{command}\n{said.getvalue()}"
    return said.getvalue()


@functools.cache
def help_of(program: str) -> str:
    """What a `python -m` command prints for --help; in this process, too."""
    module, *words = program.removeprefix(PYTHON).split()
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings(), redirect_stdout(io.StringIO()) as said:
        warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
        patched.setattr(sys, "argv", ["main.py", *words, "--help"])
        with pytest.raises(SystemExit) as done:
            runpy.run_module(module, run_name="__main__")
    assert done.value.code == 0
    return said.getvalue()
