"""Nothing reports its use to anybody: not ONNX Runtime, and nothing else that the tools bring."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from measure.telemetry import OFF
from tests.end_to_end.conftest import Served
from tests.end_to_end.slos import write_slos
from tests.tools import require

ROOT = Path(__file__).parents[2]
LOOKED_UP_S = 13
"""ONNX Runtime looks up its collector ten seconds after its first session."""
ELSEWHERE = re.compile(r'AF_INET6?,.*?inet_(?:addr|pton)\((?:AF_INET6, )?"(?!127\.|::1"|::ffff:127\.)([^"]+)"')


def fresh(home: Path) -> dict[str, str]:
    """The environment of someone who has set no switch and run nothing yet."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in OFF and not name.startswith("XDG_")}
    return kept | {"HOME": str(home)}


def watched(trace: Path, *command: object) -> list[str]:
    """The command under strace, which writes down with whom it and its children speak."""
    tracing = [require("strace"), "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg"]
    return [*tracing, "-o", str(trace), sys.executable, "-m", *map(str, command)]


def addresses(trace: Path) -> set[str]:
    """The addresses beyond this machine."""
    return {found for line in trace.read_text().splitlines() for found in ELSEWHERE.findall(line)}


@contextmanager
def local_server(trace: Path, repository: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run it watched, stopped as by Ctrl-C, and give its gRPC address."""
    command = watched(trace, "deploy.local", "--repository", repository, "--free-ports", "--stop-timeout", 0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        ready = re.search(r"gRPC (\S+),", process.stdout.readline())
        try:
            assert ready
            yield ready[1]
        finally:
            for child in psutil.Process(process.pid).children():
                child.terminate()


def test_a_session_leaves_nothing_in_a_fresh_home(served: Served, tmp_path: Path) -> None:
    environment = fresh(tmp_path / "home")
    command = [sys.executable, "-m", "export", "verify", "--repository", str(served.repository)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment)
    assert not list((tmp_path / "home").rglob("*onnxruntime*"))


@pytest.mark.slow
def test_serving_and_a_load_test_speak_with_nobody_else(served: Served, tmp_path: Path) -> None:
    environment = fresh(tmp_path / "home")
    traces = [tmp_path / name for name in ("server", "load", "verify")]
    with local_server(traces[0], served.repository, environment) as url:
        started_s = time.monotonic()
        load = ("loadtest", "run", "--profile", "smoke", "--url", url, "--out", tmp_path / "run", "--no-calibration")
        load += ("--slos", write_slos(tmp_path / "slos.toml"))
        verify = ("export", "verify", "--repository", served.repository)
        for trace, command in zip(traces[1:], (load, verify), strict=True):
            done = subprocess.run(
                watched(trace, *command), capture_output=True, text=True, check=False, cwd=ROOT, env=environment
            )
            assert done.returncode == 0, done.stdout + done.stderr
        time.sleep(max(0.0, LOOKED_UP_S - (time.monotonic() - started_s)))  # that nothing comes cannot be waited for
    assert "127.0.0.1" in traces[0].read_text() + traces[1].read_text()  # a trace of those who spoke
    assert {trace.name: addresses(trace) for trace in traces} == {trace.name: set() for trace in traces}
    assert not list((tmp_path / "home").rglob("*onnxruntime*"))


def test_a_look_up_would_be_seen(tmp_path: Path) -> None:
    line = '7 connect(8, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.1")}, 16) = 0\n'
    six = '7 sendto(8, "x", 1, 0, {sa_family=AF_INET6, inet_pton(AF_INET6, "2001:db8::1", &a)}, 28)\n'
    own = line.replace("192.0.2.1", "127.0.0.1") + six.replace("2001:db8::1", "::1")
    (tmp_path / "trace").write_text(line + six + own)
    assert addresses(tmp_path / "trace") == {"192.0.2.1", "2001:db8::1"}
