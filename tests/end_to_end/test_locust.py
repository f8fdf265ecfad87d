import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import Served

ROOT = Path(__file__).parents[2]


def run_locust(host: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"]
    command += ["--host", host, "--users", "2", "--spawn-rate", "2", "--run-time", "2s", "--csv", str(folder / "run")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)


def test_locust_loads_the_server_and_ends_by_itself(served: Served, tmp_path: Path) -> None:
    done = run_locust(served.server.grpc_url, tmp_path)
    assert done.returncode == 0, done.stderr
    header, row = (line.split(",") for line in (tmp_path / "run_stats.csv").read_text().splitlines()[:2])
    figures = dict(zip(header, row, strict=True))
    assert figures["Name"] == "recommend"
    assert int(figures["Request Count"]) > 10
    assert int(figures["Failure Count"]) == 0


def test_locust_fails_when_nothing_answers(tmp_path: Path) -> None:
    done = run_locust("127.0.0.1:9", tmp_path)
    assert done.returncode == 2
    assert "error: 127.0.0.1:9 does not answer" in done.stderr
