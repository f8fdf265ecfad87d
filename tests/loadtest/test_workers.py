"""Workers on other machines, without a network: their shares, clocks, blocks of records, and faults."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from loadtest.commands.run import print_verdict
from loadtest.judge.slo import GeneratorLimits, SLOs
from loadtest.judge.verdict import Verdict, check
from loadtest.load.plan import Plan
from loadtest.load.profiles import Profile, Stage
from loadtest.load.workload import DEFAULT, load_workload
from loadtest.records import Worker
from loadtest.report.write import write_report
from loadtest.run.members import Busiest, Member, clock_of
from loadtest.run.parts import REQUESTS, Outbox, Part, Recorder, collect, workers, workers_cpu_share
from tests.loadtest.make_run import lognormal, make_run

RAMP = Profile(rate=50, stages=(Stage(name="up", duration_s=10, level=0, to=1),))
HEALTHY = Worker(
    number=1,
    host="node-b",
    process=17,
    planned=402,
    recorded=402,
    ended=True,
    began_late_ms=0.4,
    pause_ms=12,
    round_trip_ms=1.2,
    cpu_share=0.4,
    machine_share=0.5,
)


def plan(profile: Profile = RAMP, workers: int = 1, number: int = 0) -> Plan:
    return Plan(
        profile=profile, workload=load_workload(DEFAULT), url="localhost:8001", nonce=1, workers=workers, number=number
    )


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_arrivals_of_one_process(workers: int) -> None:
    shares = [plan(workers=workers, number=number).arrivals() for number in range(workers)]
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), plan().arrivals())
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_workers_share_the_users_of_one_process() -> None:
    closed = Profile(users=7, stages=(Stage(name="up", duration_s=10, level=0, to=1),))
    for t_s in (-1.0, 0.0, 3.3, 9.9):
        assert sum(plan(closed, 3, number).users(t_s) for number in range(3)) == plan(closed).users(t_s)
    assert plan(closed).users(9.99) == 7
    assert plan(closed).users(10.0) is None
    assert [plan(workers=2, number=1).users(t_s) for t_s in (-1.0, 10.5, 11.5)] == [1, 1, None]


@pytest.mark.parametrize("faked_s", [5000.0, -777.0])
def test_another_clock_is_known_to_half_the_shortest_round_trip(faked_s: float) -> None:
    rng, exchanges, now_s = np.random.default_rng(0), [], 100.0
    for there_s, back_s in rng.exponential(0.003, (20, 2)) + 0.0002:
        exchanges.append((now_s, now_s + there_s + faked_s, now_s + there_s + back_s))
        now_s += 0.01
    clock_s, round_trip_s = clock_of(exchanges)
    assert round_trip_s == min(received_s - sent_s for sent_s, _, received_s in exchanges)
    assert clock_s == pytest.approx(faked_s, abs=round_trip_s / 2)


def test_the_busiest_ten_seconds_count_and_a_short_run_counts_whole() -> None:
    busiest = Busiest()
    assert [busiest.add(share) for share in (1.0, 0.0, 0.5)] == [1.0, 0.5, 0.5]
    for share in [0.5] * 7 + [0.8] * 10 + [0.1] * 20:
        highest = busiest.add(share)
    assert highest == pytest.approx(0.8)


def test_a_master_counts_records_and_the_blocks_that_are_missing(tmp_path: Path) -> None:
    member, outbox = Member("id", replace(HEALTHY, recorded=0, ended=False)), Outbox()
    recorder = Recorder(outbox.append)
    member.begin(tmp_path / "part-1", 100.0)
    for number, last in ((0, False), (2, True)):
        recorder.add([7], intended_s=0.1, started_s=0.2, ended_s=0.3, cold=False, error=None)
        (files,) = outbox.take()
        state = {"began_late_ms": 3.0, "pause_ms": 4.0} | ({} if last else {"cpu_share": 0.7, "machine_share": 0.9})
        member.take({"number": number, "files": files, "last": last, "state": state})
    assert member.worker == replace(
        HEALTHY,
        recorded=2,
        missing_blocks=1,
        began_late_ms=3.0,
        pause_ms=4.0,
        cpu_share=0.7,
        machine_share=0.9,
    )
    assert workers(tmp_path) == (member.worker,)
    assert workers_cpu_share(tmp_path) == 0
    assert len(collect(tmp_path, RAMP)) == 2
    assert (tmp_path / f"part-1{REQUESTS}").stat().st_size > 0


HOSTILE = "ServerFailed: \x1b[2K\rerror: none\x85again \u202ereversed"
ESCAPED = r"ServerFailed: \x1b[2K\rerror: none\x85again \u202ereversed"


def test_error_texts_from_another_machine_forge_no_lines(tmp_path: Path) -> None:
    outbox = Outbox()
    recorder, part = Recorder(outbox.append), Part(tmp_path / "part-1", 100.0)
    for error in (HOSTILE, "Unavailable: gone"):
        recorder.add([7], intended_s=0.1, started_s=0.2, ended_s=0.3, cold=False, error=error)
    (files,) = outbox.take()
    for suffix, content in files.items():
        part.append(suffix, content)
    records = collect(tmp_path, RAMP)
    assert [records.errors[number] for number in records.error] == [ESCAPED, "Unavailable: gone"]


def test_a_reason_from_another_machine_is_one_line_of_the_error() -> None:
    program = "import sys; from loadtest.errors import fail; fail(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", program, f"worker 1: {HOSTILE}\n"], capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (2, f"error: worker 1: {ESCAPED}\\n\n")


def verdict_on(folder: Path, *remote: Worker, **settings: object) -> Verdict:
    run = make_run(folder, lognormal(600), settings=settings)
    generator = replace(run.settings.generator, remote=remote)
    return check(replace(run, settings=replace(run.settings, generator=generator)), SLOs(generator=GeneratorLimits()))


def test_healthy_workers_leave_the_verdict_as_it_is(tmp_path: Path) -> None:
    assert verdict_on(tmp_path, replace(HEALTHY, number=0), HEALTHY).word == "PASSED"


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"ended": False}, "did not send its last records: it died, or lost its connection"),
        ({"missing_blocks": 2}, "sent 2 blocks of records that did not arrive"),
        ({"recorded": 207}, "recorded 207 of its 402 planned requests"),
        ({"began_late_ms": 2040.0}, "began 2,040 ms late, expected at most 50"),
        ({"pause_ms": 8010.0}, "was stopped or hung for 8,010 ms, expected at most 1,000"),
        ({"cpu_share": 0.97}, "used 0.97 of a core over 10 s, expected at most 0.9"),
        ({"machine_share": 0.95}, "ran on a machine with a share of 0.95 of busy cores over 10 s"),
        ({"round_trip_ms": 31.0}, "answered after 31 ms, so its clock is not known well enough, expected at most 20"),
    ],
)
def test_a_faulty_worker_makes_the_run_invalid_and_is_named(
    tmp_path: Path, changed: dict[str, float], fault: str
) -> None:
    worker = replace(HEALTHY, **changed)
    verdict = verdict_on(tmp_path, replace(HEALTHY, number=0), worker)
    assert (verdict.word, verdict.exit_code) == ("NOT VALID", 1)
    assert verdict.reason.startswith(f"worker 1 (node-b, process 17) {fault}")


def test_the_report_names_the_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, lognormal(600))
    generator = replace(run.settings.generator, remote=(replace(HEALTHY, pause_ms=8010.0),))
    run = replace(run, settings=replace(run.settings, generator=generator))
    assert print_verdict(run, None, None) == 1
    fault = "worker 1 (node-b, process 17) was stopped or hung for 8,010 ms, expected at most 1,000"
    assert f"NOT VALID: {fault}\n" in capsys.readouterr().out
    verdict = check(run, SLOs())
    write_report(run, verdict)
    assert json.loads((tmp_path / "verdict.json").read_text())["worker_faults"] == [fault]
    assert all(fault[1:] in (tmp_path / name).read_text() for name in ("report.html", "summary.md"))
    (suite,) = ET.parse(tmp_path / "junit.xml").getroot()
    assert int(suite.get("errors", "")) == len(suite.findall(".//error")) == 1
    assert int(suite.get("tests", "")) == len(suite)


def test_a_run_that_was_ended_early_owes_no_requests(tmp_path: Path) -> None:
    assert verdict_on(tmp_path, replace(HEALTHY, recorded=207), ended_early="interrupted").worker_faults == ()
