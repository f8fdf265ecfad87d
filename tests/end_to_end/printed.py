"""Commands as the documentation prints them: lines indented by four spaces."""

import os
import re
import subprocess
from pathlib import Path

from tests.tools import path_with_environment, require

ROOT = Path(__file__).parents[2]
NEVER_RUN = "# *"
"""Ends a command that needs a cluster, a container engine or several GPUs."""
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
