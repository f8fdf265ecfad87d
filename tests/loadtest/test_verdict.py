import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.judge.slo import GeneratorLimits, Limits, SLOs
from loadtest.judge.verdict import Objective, Outcome, Verdict, check, to_json
from loadtest.records import Generator, Run
from loadtest.report.junit import to_junit
from tests.loadtest.make_run import make_run


def test_every_metric_is_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.arange(1, 10_001) / 10, duration_s=100, failed=np.arange(10_000) < 10)
    limits = Limits(p50_ms=1e6, p95_ms=1e6, p99_ms=1e6, p99_9_ms=1e6, error_share=0.5, requests_per_s=1)
    measured = {of.metric: of.measured for of in check(run, SLOs(name="x", all=limits)).objectives}
    assert measured["p50_ms"] == pytest.approx(500.6)  # the ten quickest failed
    assert measured["p95_ms"] == pytest.approx(950.1)
    assert measured["p99_ms"] == pytest.approx(990.1)
    assert measured["p99_9_ms"] == pytest.approx(999.1)
    assert measured["error_share"] == pytest.approx(0.001)
    assert measured["requests_per_s"] == pytest.approx(99, abs=1)
    assert measured["cpu_share"] == pytest.approx(0.35)
    assert measured["share_of_limit"] == pytest.approx(100 / 900)


def test_groups_are_apart(tmp_path: Path) -> None:
    serial = np.arange(5000)
    latency = np.where(serial % 5 < 2, 5.0, np.where(serial % 5 == 4, 80.0, 20.0))
    run = make_run(tmp_path, latency)
    one = Limits(p50_ms=1e6)
    verdict = check(run, SLOs(name="x", all=one, cold=one, repeat=one, new=one))
    measured = {of.group: (of.measured, of.requests) for of in verdict.objectives if of.metric == "p50_ms"}
    assert measured == {
        "all": (pytest.approx(20), 5000),
        "cold": (pytest.approx(80), 1000),
        "repeat": (pytest.approx(5), 2000),
        "new": (pytest.approx(20), 3000),
    }


def test_held_and_missed(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.where(np.arange(600) % 10 == 9, 50.0, 20.0))
    verdict = check(run, SLOs(name="x", all=Limits(p50_ms=20.001, p99_ms=49, requests_per_s=11)))
    assert not verdict.ok
    assert (verdict.word, verdict.exit_code) == ("FAILED", 1)
    assert _outcomes(verdict) == {
        "p50_ms": Outcome.HELD,
        "p99_ms": Outcome.MISSED,
        "requests_per_s": Outcome.MISSED,
    }
    assert verdict.reason == (
        "p99 of all requests is 50 ms, expected at most 49 ms; "
        "throughput of all requests is 10 per second, expected at least 11 per second"
    )


def test_all_held(tmp_path: Path) -> None:
    verdict = check(make_run(tmp_path, np.full(600, 20.0)), SLOs(name="x", all=Limits(p99_ms=30)))
    assert verdict.ok
    assert (verdict.word, verdict.exit_code, verdict.reason) == ("PASSED", 0, "all 4 objectives held")


def test_too_few_requests_are_no_pass(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(4999, 20.0))
    verdict = check(run, SLOs(name="x", all=Limits(p99_ms=30, p99_9_ms=40, error_share=0.0001)))
    assert (verdict.word, verdict.exit_code) == ("NOT SHOWN", 1)
    assert _outcomes(verdict) == {
        "p99_ms": Outcome.HELD,
        "p99_9_ms": Outcome.TOO_FEW,
        "error_share": Outcome.TOO_FEW,
    }
    assert "p99.9 of all requests needs at least 5,000 answered requests, but there were 4,999" in verdict.reason


def test_failed_requests_are_none_for_a_percentile(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(600, 20.0), failed=np.arange(600) < 200)
    verdict = check(run, SLOs(name="x", all=Limits(p99_ms=30, error_share=0.001)))
    assert _outcomes(verdict) == {"p99_ms": Outcome.TOO_FEW, "error_share": Outcome.MISSED}


def test_answers_after_the_end_are_no_throughput(tmp_path: Path) -> None:
    latency = np.where(np.arange(600) < 300, 10.0, 60_000.0)
    verdict = check(make_run(tmp_path, latency), SLOs(name="x", all=Limits(requests_per_s=5.1)))
    assert _outcomes(verdict) == {"requests_per_s": Outcome.MISSED}


@pytest.mark.parametrize(("cpu_share", "limit"), [(0.95, 900.0), (0.3, 10.5)])
def test_an_overloaded_generator_makes_the_run_invalid(tmp_path: Path, cpu_share: float, limit: float) -> None:
    run = make_run(tmp_path, np.full(600, 20.0), cpu_share=cpu_share)
    generator = replace(run.settings.generator, limit_requests_per_s=limit)
    verdict = check(_with(run, generator), SLOs(name="x", all=Limits(p99_ms=30)))
    assert (verdict.word, verdict.valid, verdict.exit_code) == ("NOT VALID", False, 1)
    assert "of the load generator" in verdict.reason.split("; ")[0]


def late(run: Run, share: float) -> Run:
    """As if this share of the requests had left 0.2 s late."""
    first = np.arange(len(run.records)) < share * len(run.records)
    started_s = run.records.intended_s + np.where(first, 0.2, 0.001)
    return replace(run, records=replace(run.records, started_s=started_s))


@pytest.mark.parametrize(("share", "bound", "valid"), [(0.4, False, True), (0.6, False, False), (0.6, True, True)])
def test_a_generator_that_lets_most_go_late_makes_the_run_invalid(
    tmp_path: Path, share: float, bound: bool, valid: bool
) -> None:
    run = late(make_run(tmp_path, np.full(600, 250.0)), share)
    generator = replace(run.settings.generator, bound_reached=bound)
    verdict = check(_with(run, generator), SLOs(name="x", all=Limits(p99_ms=300)))
    assert verdict.valid is valid
    if not valid:
        assert "share of late requests of the load generator is 0.6, expected at most 0.5" in verdict.reason


def test_a_short_burst_of_cpu_is_allowed(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(600, 20.0))
    for burst_s, ok in ((2, True), (10, False)):
        shares = tuple((float(t), 1.0 if t < burst_s else 0.3) for t in range(60))
        generator = replace(run.settings.generator, cpu_share=shares)
        assert check(_with(run, generator), SLOs(name="x", all=Limits(p99_ms=30))).ok is ok


def test_a_run_that_ended_early_passes_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(600, 20.0), settings={"ended_early": "interrupted"})
    verdict = check(run, SLOs(name="x", all=Limits(p99_ms=30)))
    assert (verdict.word, verdict.exit_code) == ("NOT SHOWN", 1)
    assert verdict.reason == "the run ended early: interrupted"
    assert 'type="ended early"' in to_junit(verdict, duration_s=60)


def test_an_unwatched_generator_is_not_valid(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(600, 20.0))
    generator = replace(run.settings.generator, cpu_share=(), limit_requests_per_s=None)
    verdict = check(_with(run, generator), SLOs(name="x", all=Limits(p99_ms=30)))
    assert verdict.word == "NOT VALID"
    outcomes = {of.metric: of.outcome for of in verdict.objectives if of.group == "generator"}
    assert outcomes == {"cpu_share": Outcome.NOT_MEASURED, "late_share": Outcome.HELD}


def test_nothing_answered(tmp_path: Path) -> None:
    for run in (
        make_run(tmp_path / "none", np.empty(0)),
        make_run(tmp_path / "failed", np.full(600, 5.0), failed=np.ones(600, dtype=bool)),
    ):
        verdict = check(run, SLOs(name="x", all=Limits(p50_ms=30, error_share=0.1, requests_per_s=1)))
        assert not any(of.ok for of in verdict.objectives if of.group == "all")


def test_json_and_junit(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.where(np.arange(600) % 10 == 9, 50.0, 20.0))
    verdict = check(run, SLOs(name="x", all=Limits(p50_ms=30, p99_ms=35, p99_9_ms=40)))
    document = to_json(verdict)
    assert (document["ok"], document["verdict"]) == (False, "FAILED")
    assert {of["metric"]: of["outcome"] for of in document["objectives"] if of["group"] == "all"} == {
        "p50_ms": "held",
        "p99_ms": "missed",
        "p99_9_ms": "not enough requests",
    }
    suite = ET.fromstring(to_junit(verdict, duration_s=60)).find("testsuite")
    assert suite is not None
    assert {key: suite.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "7",
        "failures": "1",
        "errors": "1",
    }
    cases = {case.get("name"): [(child.tag, child.get("type")) for child in case] for case in suite}
    assert cases["p50_ms at most 30 ms"] == []
    assert cases["p99_ms at most 35 ms"] == [("failure", "missed")]
    assert cases["p99_9_ms at most 40 ms"] == [("error", "not enough requests")]


def test_limits_are_inclusive() -> None:
    with pytest.raises(ValueError, match="cpu_share"):
        GeneratorLimits(cpu_share=1.5)
    assert (
        Objective(
            group="new", metric="p99_ms", limit=250, measured=250.0, requests=1, needed=1, outcome=Outcome.HELD
        ).sentence
        == "p99 of new pictures is 250 ms, expected at most 250 ms"
    )


def _outcomes(verdict: Verdict) -> dict[str, Outcome]:
    return {of.metric: of.outcome for of in verdict.objectives if of.group == "all"}


def _with(run: Run, generator: Generator) -> Run:
    return replace(run, settings=replace(run.settings, generator=generator))
