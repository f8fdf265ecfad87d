import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.client import IMPORTS, IN_FLIGHT, measure_client, render_client
from benchmark.settings import QUICK
from tests.tiny import REPOSITORY

SETTINGS = replace(QUICK, client_calls=5)
UNWANTED = ("gevent", "geventhttpclient", "aiohttp", "opentelemetry", "tritonclient.http")


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads(json.dumps(measure_client(SETTINGS, REPOSITORY, tmp_path_factory.mktemp("client"))))


def test_every_contestant_has_a_figure_a_round(section: dict[str, Any]) -> None:
    assert set(section["ms"]) == {"tritonclient", "altreco_client"}
    assert set(section["users_ms"]) == {"recommend, one by one", "recommend_batch", "recommend_for_users"}
    assert set(section["import_s"]) == set(IMPORTS)
    for figures in (section["ms"], section["users_ms"], section["import_s"]):
        assert {len(values) for values in figures.values()} == {SETTINGS.rounds}
        assert min(min(values) for values in figures.values()) > 0
    assert section["calls"] == SETTINGS.client_calls


def test_all_requests_in_flight_are_answered(section: dict[str, Any]) -> None:
    assert section["in_flight"]["requests"] == IN_FLIGHT
    assert section["in_flight"]["seconds"] > 0


def test_importing_the_client_loads_no_http_and_nothing_optional(tmp_path: Path) -> None:
    program = "import altreco_client, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = json.loads(done.stdout)
    assert "tritonclient.grpc" in loaded
    assert not [name for name in loaded if name.startswith(UNWANTED)]


def test_the_report_shows_what_the_client_costs_round_by_round(section: dict[str, Any]) -> None:
    conditions = {"preset": "small", "rounds": 2}
    times = {"tritonclient": [4.0, 5.0], "altreco_client": [4.2, 5.1]}
    flight = {"requests": 256, "seconds": 3.21, "threads_more": 7}
    lines = render_client({**section, "conditions": conditions, "ms": times, "in_flight": flight})
    assert "| ms a call | 4.5 (4 to 5) | 4.65 (4.2 to 5.1) | 3.5 (2 to 5) |" in lines
    text = "\n".join(lines)
    assert "256 requests were in flight on one thread (7 more than before them)" in text
    assert "all were answered, in 3.2 s" in text
    assert all(f"| `{program}` |" in text for program in IMPORTS)
    assert lines[-1] == ""
