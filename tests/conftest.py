"""What all tests share. The client's run where nothing else is installed, so that this imports pytest alone."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kept import Kept

# Two threads in each of two workers on two cores wait for one another: training then takes three times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Checkpoints and releases, the same for all of xdist's workers."""
    from tests.kept import Kept  # noqa: PLC0415

    folder = tmp_path_factory.getbasetemp()
    return Kept((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "kept")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skipped tests, also where there are none, by their reasons."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.getreports("skipped"))
    terminalreporter.write_line(f"skipped: {reasons.total()}")
    for reason, count in reasons.items():
        terminalreporter.write_line(f"  {count}: {reason}")
