"""hostile.py and slow.py, shorter than for the report."""

from pathlib import Path

import pytest

from reliability.hostile import vanishing_clients
from reliability.slow import KINDS, slow_clients


def test_clients_that_vanish_leave_nothing_behind(repository: Path) -> None:
    assert vanishing_clients(repository, processes=4, sockets=100, at_once=2, window_s=1).missed == []


@pytest.mark.slow
@pytest.mark.timing
def test_slow_clients_stay_until_the_age_ends_them(repository: Path) -> None:
    outcome = slow_clients(repository, connections=20, window_s=2, age_s=2, grace_s=1)
    assert outcome.missed == []
    for kind in KINDS:
        assert outcome.figures[f"those that {kind}"].startswith("20 of 20 still open")
