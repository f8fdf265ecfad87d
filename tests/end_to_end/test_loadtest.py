import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton

from deploy.local import Server
from loadtest.__main__ import main
from loadtest.errors import LoadtestError
from loadtest.load.workload import DEFAULT, load_workload
from loadtest.records import Run, load_run
from loadtest.run import limit
from loadtest.run.one import PARTS, Target, vocabulary_size
from loadtest.run.parts import ENTRY
from loadtest.run.sampler import counters
from measure.waiting import wait_until
from reliability.servers import kill
from reliability.slow_model import slow_repository
from tests.called import ROOT, called
from tests.end_to_end.conftest import Served
from tests.end_to_end.faults import closed_port, stopped
from tests.end_to_end.slos import write_slos
from tests.servers import serving

WAIT_S = 60
PAUSE_S = 1.0
RATE = 20
CALM = 6
"""Requests per second of which a server that stops for three seconds refuses none: the client has 16 in flight."""


def command(*options: object) -> list[str]:
    return [sys.executable, "-m", "loadtest", "run", *map(str, options)]


@contextmanager
def load(folder: Path, *options: object) -> Iterator[subprocess.Popen[str]]:
    """A run that has begun."""
    arguments = command("--profile", "smoke", "--out", folder, "--no-calibration", *options)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as process:
        try:
            wait_until(lambda: process.poll() is not None or answered(folder) > 0)
            assert process.poll() is None, process.communicate()[0]
            yield process
        finally:
            process.terminate()


def answered(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / PARTS).glob("*.requests")) // ENTRY.itemsize


def begin(folder: Path) -> float:
    """Start of the load, on this machine's monotonic clock."""
    return min(json.loads(file.read_text()) for file in (folder / PARTS).glob("*.start"))


def finished(process: subprocess.Popen[str], folder: Path, code: int) -> tuple[Run, str]:
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, output
    assert not (folder / PARTS).exists()
    return load_run(folder), output


def counted_by_locust(folder: Path) -> int:
    rows = csv.DictReader((folder / "locust_stats.csv").read_text().splitlines())
    return next((int(row["Request Count"]) for row in rows if row["Name"] == "recommend"), 0)


def test_a_smoke_run(served: Served, tmp_path: Path) -> None:
    options = ("--rate", CALM, "--duration", 5, "--url", served.server.grpc_url, "--out", "run")
    options += ("--metrics-url", served.server.metrics_url, "--slos", write_slos(tmp_path / "slos.toml"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run(
        command("--profile", "smoke", *options),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        cwd=tmp_path,  # not the root: `run` is where the caller is
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = load_run(tmp_path / "run")
    records = run.records
    assert len(records) == pytest.approx(5 * CALM, abs=15)
    assert 0 < counted_by_locust(tmp_path / "run") <= len(records)  # Locust's file is as of its last second
    assert (records.error == -1).all()
    assert (np.diff(records.intended_s) >= 0).all()
    assert records.intended_s.min() >= 0
    assert records.intended_s.max() < run.settings.duration_s == 5
    assert set(records.rows) <= {1, 8}
    assert 0 < records.cold.sum() < len(records)
    assert run.settings.generator.limit_requests_per_s > CALM
    assert run.settings.generator.load == "open"
    assert run.settings.server_config["models"]["visual_encoder"]["response_cache"] == {"enable": True}
    first, *_, last = run.samples
    assert first["t_s"] < 0
    assert last["t_s"] > 5
    served_requests, before = (sample["models"]["tag_recommender"]["requests"] for sample in (last, first))
    assert served_requests - before >= len(records)
    assert "0 failed" in done.stdout
    assert done.stderr.startswith("measuring the highest rate that the generator can send")


@pytest.mark.timing
def test_a_stall_shows_in_all_requests_that_should_have_left_meanwhile(served: Served, tmp_path: Path) -> None:
    with load(tmp_path, "--rate", RATE, "--duration", 5, "--url", served.server.grpc_url) as process:
        wait_until(lambda: answered(tmp_path) > 10)
        with stopped(served.server):
            stall_s = time.monotonic() - begin(tmp_path)
            time.sleep(PAUSE_S)
            end_s = time.monotonic() - begin(tmp_path)
        run, _ = finished(process, tmp_path, 0)
    stalled = run.records.where((run.records.intended_s > stall_s) & (run.records.intended_s < end_s - 0.05))
    assert len(stalled) == pytest.approx(RATE * PAUSE_S, abs=15)
    waited_ms = (end_s - stalled.intended_s) * 1000
    assert (stalled.latency_ms() > waited_ms).all()
    assert np.median(stalled.started_s - stalled.intended_s) < 0.1
    assert np.median(run.records.where(run.records.intended_s < stall_s).latency_ms()) < PAUSE_S * 1000 / 2


def test_a_server_that_is_killed(served: Served, tmp_path: Path) -> None:
    with (
        serving(served.repository) as server,
        load(tmp_path, "--rate", RATE, "--duration", 8, "--url", server.grpc_url) as process,
    ):
        kill(server)
        run, output = finished(process, tmp_path, 1)
    assert 0 < (run.records.error == -1).sum() < len(run.records)
    assert all(error.startswith("Unavailable: ") for error in run.records.errors)
    assert run.settings.duration_s == 8
    assert "times Unavailable: " in output


@contextmanager
def frozen(run: psutil.Process) -> Iterator[None]:
    """The processes that send."""
    workers = [child for child in run.children(recursive=True) if "--worker" in child.cmdline()]
    assert len(workers) == 2
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()


def test_ctrl_c_keeps_what_was_recorded(served: Served, tmp_path: Path) -> None:
    with load(tmp_path, "--rate", CALM, "--duration", 600, "--workers", 2, "--url", served.server.grpc_url) as process:
        wait_until(lambda: answered(tmp_path) > 10)
        with frozen(psutil.Process(process.pid)):  # so that the end finds requests that are due
            os.kill(process.pid, signal.SIGINT)
            time.sleep(4 / CALM)  # requests become due by the clock alone
        run, output = finished(process, tmp_path, 130)
    assert len(run.records) > 10
    assert (run.records.error == -1).all()
    assert run.settings.duration_s < 60
    assert run.settings.ended_early == "interrupted"
    assert "stopping" in output


@pytest.mark.slow
def test_the_deadline_of_requests_is_not_that_of_the_set_up(served: Served, tmp_path: Path) -> None:
    workload = tmp_path / "hurried.toml"
    workload.write_text(re.sub(r"deadline_s = [\d.]+", "deadline_s = 0.0001", DEFAULT.read_text()))
    options = ("--users", 1, "--duration", 1, "--workload", workload, "--url", served.server.grpc_url)
    with load(tmp_path, *options) as process:
        run, _ = finished(process, tmp_path, 1)
    assert len(run.records) > 0
    assert all(error.startswith("DeadlineExceeded: ") for error in run.records.errors)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_loses_no_record(served: Served, tmp_path: Path) -> None:
    left_bytes = 16 * 1024
    options = ("--users", 8, "--duration", 120, "--url", served.server.grpc_url)
    with load(tmp_path, *options) as process:
        for generator in psutil.Process(process.pid).children():  # which alone finds the disk full
            generator.rlimit(psutil.RLIMIT_FSIZE, (left_bytes, left_bytes))
        run, output = finished(process, tmp_path, 2)
    assert output.endswith(f"error: the records of requests cannot be written to {tmp_path}: is its disk full?\n")
    assert len(run.records) == left_bytes // ENTRY.itemsize
    assert run.settings.ended_early


@pytest.mark.slow
def test_a_generator_that_gets_no_answer_in_its_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "CALIBRATION_WARM_UP_S", limit.CALIBRATION_S)  # so that no answer counts
    with pytest.raises(LoadtestError, match="other programs use this machine's cores"):
        limit.measure_limit(load_workload(DEFAULT), tags=10)


def test_nothing_answers(tmp_path: Path) -> None:
    done = called(main, "run", "--url", closed_port(), "--out", tmp_path / "run")
    assert done.returncode == 2
    assert re.fullmatch(r"error: 127\.0\.0\.1:\d+ does not answer; is Triton running.*\n", done.stderr)
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_not_there(served: Served) -> None:
    with pytest.raises(LoadtestError, match="nonesuch"):
        vocabulary_size(Target(url=served.server.grpc_url, model="nonesuch"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--repository", "tests"], "error: tests has no release to serve: make one with `make demo`"),
        (["--workers", "0"], "error: --workers is 0, expected 1 or more"),
        (["--profile", "stedy"], "error: there is no profile 'stedy'"),
        (["--workload", "nowhere.toml"], r"error: cannot read the workload nowhere\.toml"),
        (["--rate", "5", "--users", "5"], "not allowed with argument"),
        (["--bind", "10.0.0.1:5557"], "error: --bind needs the --url of a running server"),
        (["--bind", "10.0.0.1"], r"'10\.0\.0\.1' is not HOST:PORT"),
        (["--metrics-url", "http://localhost:1/metrics"], "error: --metrics-url is for a running server"),
        (["--rate", "5", "--duration", "5", "--second-opinion"], "error: --second-opinion needs a load of 50 requests"),
    ],
)
def test_options_that_cannot_be(options: list[str], message: str) -> None:
    done = called(main, "run", *options)
    assert done.returncode == 2
    assert re.search(message, done.stderr)


@pytest.mark.slow
def test_two_replicas_are_counted_together(served: Served, tmp_path: Path) -> None:
    slos = tmp_path / "slos.toml"
    slos.write_text("[all]\np50_ms = 30_000\n[generator]\ncpu_share = 1.0\nlate_share = 1.0\n")  # beside other tests
    with serving(served.repository) as other:
        servers = (served.server, other)
        before = requests(servers)
        options = ["--slos", str(slos), "--url", f"ipv4:{','.join(server.grpc_url for server in servers)}"]
        options += [word for server in servers for word in ("--metrics-url", server.metrics_url)]
        with load(tmp_path, "--rate", RATE, "--duration", 3, *options) as process:
            run, _ = finished(process, tmp_path, 0)
        after = requests(servers)
    each = [now - then for now, then in zip(after, before, strict=True)]
    assert min(each) > len(run.records) / 4  # the client goes round them
    first, last = (run.samples[i]["models"]["tag_recommender"]["requests"] for i in (0, -1))
    assert last == sum(after)
    assert last - first >= len(run.records)


def requests(servers: tuple[Server, ...]) -> list[int]:
    """Answered by each so far."""
    counted = []
    for server in servers:
        with triton.InferenceServerClient(server.grpc_url) as client:
            counted.append(counters(client)["tag_recommender"]["requests"])
    return counted


@pytest.mark.slow
def test_a_generator_that_is_too_busy_fails_the_run(served: Served, tmp_path: Path) -> None:
    """Which has to decode more photos than its cores can: whether it gets much of them, or others need them too."""
    options = ("--workload", ROOT / "loadtest" / "workloads" / "photos.toml", "--rate", 200, "--duration", 4)
    with load(tmp_path, *options, "--url", served.server.grpc_url) as process:
        run, output = finished(process, tmp_path, 1)
    assert re.search(r"NOT VALID: .* of the load generator is .*: give it more --workers", output)
    # Those that never got their turn are counted, too.
    assert len(run.records) == pytest.approx(800, abs=150)


def test_a_missed_objective_decides_the_exit_code_and_the_report_says_why(served: Served, tmp_path: Path) -> None:
    """One that is held: below."""
    slos, out = write_slos(tmp_path / "slos.toml", p50_ms=0.001), tmp_path / "run"
    with load(out, "--rate", CALM, "--duration", 5, "--url", served.server.grpc_url, "--slos", slos) as process:
        _, output = finished(process, out, 1)
    assert "FAILED: " in output
    assert_reported(out, "FAILED", ok=False)


def assert_reported(folder: Path, word: str, *, ok: bool) -> None:
    assert word in (folder / "report.html").read_text()
    assert json.loads((folder / "verdict.json").read_text())["ok"] is ok


def test_requests_in_flight_at_the_end_are_recorded(served: Served, tmp_path: Path) -> None:
    """With two workers, whose master does not wait for them."""
    slow = slow_repository(served.repository, tmp_path / "slow")
    options = ("--users", 4, "--duration", 3, "--workers", 2, "--slos", write_slos(tmp_path / "slos.toml"))
    with serving(slow.repository) as server, load(tmp_path / "run", *options, "--url", server.grpc_url) as process:
        wait_until(lambda: answered(tmp_path / "run") > 10)
        slow.take(4)
        run, _ = finished(process, tmp_path / "run", 0)
    assert np.count_nonzero(run.records.ended_s > run.settings.duration_s) == 4


def test_make_loadtest_takes_what_readme_says(served: Served, tmp_path: Path) -> None:
    """With users in place of a rate, in two workers."""
    slos = write_slos(tmp_path / "slos.toml")
    options = f"--duration 5 --users 4 --no-calibration --out {tmp_path / 'run'}"
    words = [f"REPOSITORY={served.repository}", f"SLOS={slos}", "PROFILE=smoke", f"OPTIONS={options}"]
    done = subprocess.run(
        ["make", "loadtest", "WORKERS=2", *words], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED: all " in done.stdout
    assert_reported(tmp_path / "run", "PASSED", ok=True)
    run = load_run(tmp_path / "run")
    assert (run.settings.generator.workers, run.settings.generator.load) == (2, "closed")
    # Locust's master may end before a worker's last report; ours are written at once.
    assert len(run.records) >= counted_by_locust(tmp_path / "run")
    assert (run.records.late_ms() >= 0).all()
    assert run.records.repeat.any()
