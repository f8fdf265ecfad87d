from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.commands.run import Progress, print_verdict, summary
from loadtest.judge.slo import Limits, SLOs
from loadtest.records import Run
from tests.loadtest.make_run import make_run


def told(run: Run) -> list[str]:
    return summary(run).splitlines()


def test_failures_come_first_and_survivors_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(198, 1731.0), failed=np.arange(198) < 182)
    lines = told(run)
    assert lines[0] == "198 requests in 60 s, 182 failed"
    assert lines[1].endswith(("times DeadlineExceeded: no answer within 2 s", "times Unavailable: <no server> answers"))
    assert lines[3] == (
        "latency of the 16 answered requests alone, from when requests were due: p50 1,731 ms "
        "(answered requests needed: p95 100, p99 500)"
    )
    assert lines[-1] == f"wrote {tmp_path}"


def test_enough_answers_have_all_percentiles(tmp_path: Path) -> None:
    lines = told(make_run(tmp_path, np.full(600, 20.0)))
    assert lines[:2] == [
        "600 requests in 60 s, 0 failed",
        "latency, from when requests were due: p50 20 ms, p95 20 ms, p99 20 ms",
    ]


def test_next_to_no_answers_have_none(tmp_path: Path) -> None:
    assert "too few to tell" in summary(make_run(tmp_path / "few", np.full(5, 20.0)))
    assert "latency" not in summary(make_run(tmp_path / "none", np.full(5, 20.0), failed=np.ones(5, dtype=bool)))


def test_a_run_without_a_request_says_why(tmp_path: Path) -> None:
    lines = told(make_run(tmp_path / "open", np.empty(0)))
    assert lines[:2] == [
        "0 requests in 60 s, 0 failed",
        "at random times, none was due: raise the rate (20 per second) or the --duration",
    ]
    cut = make_run(tmp_path / "cut", np.empty(0), settings={"ended_early": "interrupted"})
    assert told(cut)[1] == "the run ended early: interrupted"


def test_late_requests_and_an_early_end_are_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(600, 500.0), settings={"ended_early": "interrupted"})
    late = replace(run, records=replace(run.records, started_s=run.records.intended_s + 0.2))
    lines = told(late)
    assert lines[1:3] == ["the run ended early: interrupted", "600 requests were sent more than 100 ms late"]


@pytest.mark.parametrize("slos", [None, SLOs(name="x", all=Limits(p99_ms=30))], ids=["without SLOs", "with SLOs"])
def test_a_run_that_is_not_valid_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], slos: SLOs | None
) -> None:
    assert print_verdict(make_run(tmp_path, np.full(600, 20.0), cpu_share=0.95), slos, None) == 1
    said = capsys.readouterr().out
    assert said.startswith("NOT VALID: ")
    assert said.count("of the load generator is") == said.count("give it more --workers") == 1


def test_progress_is_a_line_at_once_and_then_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    for line in ("preparing", "1 of 10 s"):
        progress.say(line)
    progress.end()
    assert capsys.readouterr().err == "preparing\n"
