"""The scenarios of kills.py and terminations.py, shorter than for the report."""

from pathlib import Path

import pytest
from altreco_client import Channel

from reliability.kills import killed_backend, killed_replica, killed_server
from reliability.terminations import drained_replica, terminated_replica, terminated_server

SHORT_S = 1.0


def test_a_killed_server_comes_back(repository: Path) -> None:
    outcome = killed_server(repository, deadline_s=10.0, window_s=SHORT_S)
    assert outcome.missed == []
    failed = int(outcome.figures["calls that failed"].partition(" ")[0].replace(",", ""))
    assert failed > 0, "no call noticed the kill"


def test_a_killed_replica_costs_no_call(repository: Path) -> None:
    assert killed_replica(repository, window_s=SHORT_S).missed == []


@pytest.mark.slow
@pytest.mark.timing
def test_a_killed_backend_is_found_by_the_golden_probe_alone(repository: Path) -> None:
    outcome = killed_backend(repository, window_s=SHORT_S)
    assert outcome.missed == []
    probes = {kind: outcome.figures[f"`probe.sh {kind}`, before and after"] for kind in ("live", "ready", "golden")}
    assert probes == {"live": "passes, passes", "ready": "passes, passes", "golden": "passes, fails"}


def test_a_server_that_stops_gives_calls_up(repository: Path) -> None:
    """Triton 2.51 loses requests that are between two steps: how many is in the report, what callers get is here."""
    missed = terminated_server(repository, rounds=1, deadline_s=30.0).missed
    assert set(missed) <= {"every call in flight at SIGTERM was answered"}


def test_a_replica_that_stops_costs_no_call_anything_but_unavailable(repository: Path) -> None:
    """In one short round, chance decides how many: the share is in the report."""
    missed = terminated_replica(repository, rounds=1, window_s=SHORT_S, deadline_s=30.0).missed
    assert set(missed) <= {"at most 5% of the calls were lost"}


class Eager(Channel):
    """Asks DNS again at once, where gRPC waits for 30 s."""

    def _channel_args(self) -> list[tuple[str, int | str]]:
        return [*super()._channel_args(), ("grpc.dns_min_time_between_resolutions_ms", 100)]


@pytest.mark.slow
@pytest.mark.timing
def test_a_drained_replica_costs_no_call(repository: Path) -> None:
    outcome = drained_replica(repository, pre_stop_s=6, age_s=1, channel=Eager(max_attempts=1))
    assert outcome.missed == []
    assert float(outcome.figures["last of these, after it left DNS"].split()[0]) < 6


def test_without_its_time_to_drain_clients_are_still_there(repository: Path) -> None:
    outcome = drained_replica(repository, pre_stop_s=4, age_s=60, quiet_s=3.5, channel=Eager(max_attempts=1))
    assert "clients had left it before SIGTERM" in outcome.missed
