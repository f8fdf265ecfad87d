"""A test session that is ended from outside leaves no server, no shared memory and no port behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from measure.waiting import wait_until
from tests.deploy.models import config, double, write_model
from tests.servers import is_alive, listens

ROOT = Path(__file__).parents[1]
WAIT_S = 120.0
TESTS = """
import json, sys, time
from pathlib import Path
import psutil, pytest
from tests.servers import serving

@pytest.mark.parametrize("number", [0, 1])
def test_that_never_ends(number):
    with serving(Path({models!r})) as server:
        triton = psutil.Process(server.pid)
        processes = [triton.pid, *(child.pid for child in triton.children(recursive=True))]
        urls = [server.grpc_url, server.http_url, server.metrics_url]
        found = {{"processes": processes, "urls": urls, "command": triton.cmdline()}}
        partial = Path({folder!r}, f"{{number}}.partial")
        partial.write_text(json.dumps(found))
        partial.rename(partial.with_suffix(".json"))
        time.sleep(600)
"""


def left(found: dict[str, Any]) -> list[str]:
    """What there still is of a server."""
    alive = [f"process {pid}" for pid in found["processes"] if is_alive(pid)]
    name = found["command"][found["command"].index("--id") + 1]
    memory = [str(region) for region in Path("/dev/shm").glob(f"{name}*")]
    return [*alive, *memory, *(url for url in found["urls"] if is_open(url))]


def is_open(url: str) -> bool:
    return listens(int(url.removesuffix("/metrics").rpartition(":")[2]))


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_left_of_an_interrupted_session(tmp_path: Path, workers: int, end: signal.Signals) -> None:
    models = tmp_path / "models"
    write_model(models, "good", double(), config())
    (tmp_path / "test_session.py").write_text(TESTS.format(models=str(models), folder=str(tmp_path)))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    command += ["--rootdir", str(ROOT), "--basetemp", str(tmp_path / "base"), str(tmp_path / "test_session.py")]
    command += ["-n", str(workers)] if workers else []
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"TMPDIR": str(tmp_path)}  # nobody is left to remove the servers' folders
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as session:
        servers = max(workers, 1)
        wait_until(lambda: len(list(tmp_path.glob("*.json"))) == servers or session.poll() is not None, seconds=WAIT_S)
        assert session.poll() is None, session.communicate()[0]
        started = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
        assert all(left(of) for of in started)
        session.send_signal(end)
        wait_until(lambda: not any(left(of) for of in started), seconds=WAIT_S)
