"""Load from several machines: a master and workers on this one, and in namespaces that stand for another.

What they record is compared with the requests that the seed draws, which one process would send.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from loadtest.load.payloads import Payloads
from loadtest.load.plan import Plan
from loadtest.records import Run, load_run
from loadtest.run.one import PARTS
from measure.waiting import wait_until
from tests.end_to_end.conftest import Served
from tests.end_to_end.slos import write_slos
from tests.kept import Kept
from tests.servers import own_ports

ROOT = Path(__file__).parents[2]
PYTHONPATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
RATE = 10
WAIT_S = 240

ADDRESS, SECOND = "10.98.0.1", "10.98.0.2"
FAKED_S = 5000
TWO_MACHINES = """
hostname one
ip link set lo up
unshare --net --uts --time --monotonic $FAKED_S bash -c "hostname two; exec sleep 300" &
other=$!
trap 'kill $(jobs -p)' EXIT
there="nsenter --target $other --net --uts --time"
until [ "$($there hostname)" = two ]; do sleep 0.02; done
ip link add cable type veth peer name end netns $other
ip addr add $ADDRESS/24 dev cable
ip link set cable up
$there ip addr add $SECOND/24 dev end
$there ip link set end up
$there ip link set lo up
$PYTHON -m deploy.local --repository $REPOSITORY --host $ADDRESS --log-file $OUT.triton --stop-timeout 0 &
$PYTHON -m loadtest worker --master $ADDRESS:5557 &
$there $PYTHON -m loadtest worker --master $ADDRESS:5557 &
second=$!
until (: < /dev/tcp/$ADDRESS/8001) 2> /dev/null; do sleep 0.1; done
$PYTHON -m loadtest run --url $ADDRESS:8001 --workers 2 --bind $ADDRESS:5557 --out $OUT $LOAD
wait $second
"""


def options(slos: Path, duration_s: float) -> list[str]:
    return ["--profile", "smoke", "--rate", str(RATE), "--duration", str(duration_s), "--slos", str(slos)]


@contextmanager
def started(*words: object, folder: Path = ROOT, path: str = PYTHONPATH) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "loadtest", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def worker(address: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return started("worker", "--master", address)


def ended(process: subprocess.Popen[str], code: int) -> str:
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, output
    return output


def sends_what_one_process_would(run: Run, repository: Path) -> None:
    tags = (repository / "classifier" / "tags.txt").read_text().splitlines()
    settings, records = run.settings, run.records
    plan = Plan(profile=settings.profile, workload=settings.workload, url=settings.url, nonce=1)
    np.testing.assert_array_equal(records.intended_s, plan.arrivals())
    planned = list(islice(Payloads(plan.workload, tags, 1).stream(0), len(records)))
    np.testing.assert_array_equal(records.rows, [len(request.pictures) for request in planned])
    np.testing.assert_array_equal(records.cold, [request.cold for request in planned])
    assert (records.error == -1).all()
    assert (records.late_ms() >= 0).all()
    assert sum(worker.recorded for worker in settings.generator.remote) == len(records)


def test_two_workers_send_what_one_process_would_and_others_are_refused(served: Served, tmp_path: Path) -> None:
    address, out = f"127.0.0.1:{next(own_ports())}", tmp_path / "run"
    another = shutil.copytree(ROOT / "loadtest", tmp_path / "another" / "loadtest")
    (another / "parse.py").write_text((another / "parse.py").read_text() + "# changed\n")
    words = ["run", "--url", served.server.grpc_url, "--workers", 2, "--bind", address, "--out", out]
    with ExitStack() as stack:
        master = stack.enter_context(started(*words, *options(write_slos(tmp_path / "slos.toml"), 4)))
        path = os.pathsep.join((str(another.parent), PYTHONPATH))
        wrong = stack.enter_context(started("worker", "--master", address, folder=another.parent, path=path))
        assert re.search(r"refuses this worker: it has loadtest \w{12}, expected \w{12}\n$", ended(wrong, 2))
        three = [stack.enter_context(worker(address)) for _ in range(3)]
        assert "PASSED: all " in ended(master, 0)
        said = {process.pid: process.communicate(timeout=WAIT_S)[0] for process in three}
    (late,) = (process for process in three if process.returncode)
    assert (late.returncode, said[late.pid].count("the run has its 2 workers already")) == (2, 1)
    run = load_run(out)
    assert {remote.process for remote in run.settings.generator.remote} == said.keys() - {late.pid}
    sends_what_one_process_would(run, served.repository)


def test_fewer_workers_than_asked(served: Served, tmp_path: Path) -> None:
    address = f"127.0.0.1:{next(own_ports())}"
    words = ["run", "--url", served.server.grpc_url, "--workers", 2, "--bind", address, "--out", tmp_path, "--wait", 15]
    with worker(address) as alone, started(*words) as master:
        output = ended(master, 2)
        assert re.search(
            rf"expected 2 workers within 15 s, but 1 came \(worker 0 \(.*, process {alone.pid}\)\)", output
        )
        assert "ended the run before its begin" in ended(alone, 2)


@pytest.mark.slow
@pytest.mark.timing
def test_workers_that_die_or_stop_are_named(served: Served, tmp_path: Path) -> None:
    address, out = f"127.0.0.1:{next(own_ports())}", tmp_path / "run"
    words = ["run", "--url", served.server.grpc_url, "--workers", 4, "--bind", address, "--out", out]
    with ExitStack() as stack:
        master = stack.enter_context(started(*words, *options(write_slos(tmp_path / "slos.toml", shared=False), 10)))
        healthy, stopped_2, stopped_8, killed = (stack.enter_context(worker(address)) for _ in range(4))
        wait_until(lambda: len(list((out / PARTS).glob("*.start"))) == 4)
        for process in (stopped_2, stopped_8):
            os.kill(process.pid, signal.SIGSTOP)
        time.sleep(2)  # the length of a stop is what the verdict names
        os.kill(stopped_2.pid, signal.SIGCONT)
        killed.kill()
        time.sleep(6)
        os.kill(stopped_8.pid, signal.SIGCONT)
        output = ended(master, 1)
        for process in (healthy, stopped_2, stopped_8):
            ended(process, 0)
    told = dict.fromkeys((p.pid for p in (healthy, stopped_2, stopped_8, killed)), "")
    for process, fault in re.findall(r"process (\d+)\) ([^;\n]+)", output):
        told[int(process)] += fault + "\n"
    assert told[healthy.pid] == ""
    assert re.search(r"(began|hung for) [12],\d{3} ms", told[stopped_2.pid])
    assert re.search(r"(began|hung for) [78],\d{3} ms", told[stopped_8.pid])
    assert "did not send its last records" in told[killed.pid]
    assert re.search(r"recorded \d+ of its \d+ planned requests", told[killed.pid])
    assert output.count("NOT VALID: ") == 1


@pytest.mark.slow
def test_two_machines_with_different_clocks(kept: Kept, tmp_path: Path) -> None:
    """In two network namespaces with a cable between them, and a clock of its own for the second."""
    isolated = ["unshare", "--map-root-user", "--net", "--uts"]
    probe = subprocess.run(
        [*isolated, "unshare", "--time", "--monotonic", str(FAKED_S), "ip", "link"],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"this machine cannot make network and time namespaces: {probe.stderr.strip()}")
    done = subprocess.run(
        [*isolated, "bash", "-euo", "pipefail", "-c", TWO_MACHINES],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": PYTHONPATH,
            "PYTHON": sys.executable,
            "ADDRESS": ADDRESS,
            "SECOND": SECOND,
            "FAKED_S": str(FAKED_S),
            "REPOSITORY": str(kept.releases(1)),
            "OUT": str(tmp_path / "run"),
            "LOAD": " ".join(options(write_slos(tmp_path / "slos.toml"), 4)),
        },
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    run = load_run(tmp_path / "run")
    clocks = {worker.host: worker.clock_s for worker in run.settings.generator.remote}
    assert clocks == {"one": pytest.approx(0, abs=0.01), "two": pytest.approx(FAKED_S, abs=0.01)}
    sends_what_one_process_would(run, kept.releases(1))
    assert (run.records.late_ms() < 2000).all()
