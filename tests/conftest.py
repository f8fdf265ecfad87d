"""What all tests share. The client's run where nothing else is installed, so that this imports pytest alone."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kept import Kept

# Two threads in each of two workers on two cores wait for one another: training then takes three times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Checkpoints and releases, the same for all of xdist's workers, and for sessions with the same ALTRECO_KEPT."""
    from tests.kept import Kept  # noqa: PLC0415

    if given := os.environ.get("ALTRECO_KEPT"):
        return Kept(Path(given).resolve())
    folder = tmp_path_factory.getbasetemp()
    return Kept((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "kept")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a file unread that has no test of the tier: to import all of them takes ten seconds."""
    if collection_path.suffix == ".py" and lacks_a_mark(collection_path.read_text(), config.option.markexpr):
        return True
    return None  # as the other hooks say


def lacks_a_mark(text: str, expression: str) -> bool:
    """Whether a file of this text has no test for `-m expression`, of those that the Makefile has."""
    if not re.fullmatch(r"(not )?\w+( and (not )?\w+)*", expression):
        return False
    return any(f"mark.{mark}" not in text for mark in expression.split(" and ") if not mark.startswith("not "))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skipped tests, also where there are none, by their reasons."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.getreports("skipped"))
    terminalreporter.write_line(f"skipped: {reasons.total()}")
    for reason, count in reasons.items():
        terminalreporter.write_line(f"  {count}: {reason}")
