"""The programs that tests run, other than Python's."""

import os
import shutil
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
LIST = Path(__file__).parents[1] / ".ci" / "system-tools"


def path_with_environment() -> str:
    """The PATH, before it this environment's programs, such as kubectl, and after it PostgreSQL's in Debian."""
    of_postgresql = map(str, Path("/usr/lib/postgresql").glob("*/bin"))
    return os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath), *of_postgresql))


def require(program: str) -> str:
    """The program's path; without it the test is skipped, or fails where ALTRECO_REQUIRE_TOOLS=1."""
    if path := shutil.which(program, path=path_with_environment()):
        return path
    missing = f"no {program} on the PATH: {how_to_get(program)}"
    if os.environ.get("ALTRECO_REQUIRE_TOOLS") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


def how_to_get(program: str) -> str:
    """A command, by the list of system tools."""
    packages = dict(line.split()[:2] for line in LIST.read_text().splitlines() if not line.startswith("#"))
    if program in packages:
        return f"`.ci/install-system-tools`, or `apt-get install {packages[program].replace(',', ' ')}`"
    return "`make .venv/.installed` installs it into .venv"
