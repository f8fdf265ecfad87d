import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from measure.waiting import wait_until
from tests.end_to_end.conftest import Served
from tests.servers import own_ports

ROOT = Path(__file__).parents[2]
WAIT_S = 60


def command(*options: object) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), *map(str, options)]


def run_locust(host: str, folder: Path) -> subprocess.CompletedProcess[str]:
    options = ("--host", host, "--users", 2, "--spawn-rate", 2, "--run-time", "5s", "--csv", folder / "run")
    return subprocess.run(
        command("--headless", *options), capture_output=True, text=True, check=False, timeout=WAIT_S, cwd=ROOT
    )


def test_locust_loads_the_server_and_ends_by_itself(served: Served, tmp_path: Path) -> None:
    done = run_locust(served.server.grpc_url, tmp_path)
    assert done.returncode == 0, done.stderr
    header, row = (line.split(",") for line in (tmp_path / "run_stats.csv").read_text().splitlines()[:2])
    figures = dict(zip(header, row, strict=True))
    assert figures["Name"] == "recommend"
    assert int(figures["Request Count"]) > 0
    assert int(figures["Failure Count"]) == 0


def test_locust_fails_when_nothing_answers(tmp_path: Path) -> None:
    done = run_locust("127.0.0.1:9", tmp_path)
    assert done.returncode == 2
    assert "error: 127.0.0.1:9 does not answer" in done.stderr


class Page:
    """Locust's page, as its own buttons use it."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, form: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if form is None else urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(self._url + path, data, timeout=10) as answer:
            return dict(json.load(answer))

    def is_there(self) -> bool:
        try:
            return "state" in self.get("/stats/requests")
        except OSError:
            return False

    def start(self, host: str) -> None:
        assert self.get("/swarm", {"user_count": 1, "spawn_rate": 1, "host": host})["host"] == host

    def requests(self) -> dict[str, int]:
        (total,) = (line for line in self.get("/stats/requests")["stats"] if line["name"] == "Aggregated")
        return {key: int(total[key]) for key in ("num_requests", "num_failures")}


@contextmanager
def page(log: Path, *options: object) -> Iterator[Page]:
    port = next(own_ports())
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("--web-host", "127.0.0.1", "--web-port", port, *options), stdout=output, stderr=output, cwd=ROOT
        )
    try:
        shown = Page(port)
        wait_until(lambda: shown.is_there() or process.poll() is not None, seconds=WAIT_S)
        assert process.poll() is None, log.read_text()
        yield shown
    finally:
        process.kill()
        process.wait()


def test_the_host_of_locusts_page_is_asked(served: Served, tmp_path: Path) -> None:
    """Whatever Locust was started with, and again after another host that does not answer."""
    log = tmp_path / "log"
    nobody = "127.0.0.1:9"
    with page(log, "--host", nobody) as shown:
        shown.start(nobody)
        wait_until(lambda: "Stopping Locust..." in log.read_text(), seconds=WAIT_S)
        assert f"{nobody} does not answer" in log.read_text()
        assert shown.requests()["num_requests"] == 0
        shown.start(served.server.grpc_url)
        wait_until(lambda: shown.requests()["num_requests"] > 10, seconds=WAIT_S)
        assert shown.requests()["num_failures"] == 0
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_a_worker_asks_the_masters_host(served: Served, tmp_path: Path) -> None:
    _, port = islice(own_ports(), 2)  # the first is the page's
    worker = subprocess.Popen(command("--worker", "--master-port", port), cwd=ROOT)
    try:
        options = ("--master", "--master-bind-port", port)
        with page(tmp_path / "log", *options) as shown:
            wait_until(lambda: bool(shown.get("/stats/requests")["workers"]), seconds=WAIT_S)
            shown.start(served.server.grpc_url)
            wait_until(lambda: shown.requests()["num_requests"] > 10, seconds=WAIT_S)
            assert shown.requests()["num_failures"] == 0
            assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()
