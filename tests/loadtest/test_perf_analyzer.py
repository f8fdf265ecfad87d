from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.errors import LoadtestError
from loadtest.load.profiles import Profile, Stage
from loadtest.second_opinion.compare import compare
from loadtest.second_opinion.perf_analyzer import (
    MOST,
    check_load,
    fetch,
    load_result,
    replay,
    save_result,
)
from tests.loadtest.make_run import PERF_ANALYZER, make_run, poisson

STAGES = (Stage(name="up", duration_s=5, level=0.5, to=1.5),)


def test_poisson_has_the_rate_and_the_repeats() -> None:
    schedule = poisson(40, 30, repeated=0.25, seed=3)
    assert len(schedule.arrivals_s) / schedule.seconds == pytest.approx(40, rel=0.1)
    assert schedule.arrivals_s[-1] < 30
    gaps = np.diff(schedule.arrivals_s)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.1)  # exponential
    new = len(np.unique(schedule.picture))
    assert 1 - new / len(schedule.picture) == pytest.approx(0.25, abs=0.05)
    first = [int(np.flatnonzero(schedule.picture == number)[0]) for number in range(new)]
    assert first == sorted(first)
    again = poisson(40, 30, repeated=0.25, seed=4)
    assert not np.array_equal(again.arrivals_s[:10], schedule.arrivals_s[:10])


@pytest.mark.parametrize(("rate", "seconds"), [(1, 5), (1000, 60)])
def test_too_few_and_too_many_requests_are_refused(rate: float, seconds: float) -> None:
    with pytest.raises(LoadtestError, match="requests for perf_analyzer, expected 30 to 1500"):
        poisson(rate, seconds)


@pytest.mark.parametrize(
    ("load", "url", "reason"),
    [
        ({"rate": 5.0}, None, "a load of 50 requests or more, but this one has about 25"),
        ({"rate": 50.0}, "ipv4:10.0.0.1:8001,10.0.0.2:8001", "is several servers"),
    ],
)
def test_a_load_that_cannot_be_repeated_is_refused(load: dict[str, float], url: str | None, reason: str) -> None:
    with pytest.raises(LoadtestError, match=reason):
        check_load(Profile(**load, stages=STAGES), url)  # type: ignore[arg-type]
    check_load(Profile(rate=10, stages=STAGES), "10.0.0.1:8001")
    check_load(Profile(users=1, stages=STAGES), None)  # nobody knows how many requests that are


def test_a_replay_has_the_moments_repeats_and_cold_starts_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(MOST + 200, 20.0), duration_s=60)
    schedule = replay(run)
    records = run.records
    assert np.array_equal(schedule.arrivals_s, records.intended_s[:MOST])
    assert np.array_equal(schedule.cold, records.cold[:MOST])
    seen: set[int] = set()
    repeats = []
    for number in schedule.picture.tolist():
        repeats.append(number in seen)
        seen.add(number)
    # The first of this run repeats a picture that there has not been yet.
    assert repeats[1:] == records.repeat[1:MOST].tolist()


def test_both_stand_side_by_side_and_the_parts_add_up(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(1200, 20.0), duration_s=60)
    opinion = compare(run, PERF_ANALYZER)
    heads, lines = opinion.table
    assert heads == ["", "Locust", "perf_analyzer"]
    cells = {name: (locust, other) for name, locust, other in lines}
    assert float(cells["requests per second"][0]) == pytest.approx(20, rel=0.01)
    assert cells["p99, ms"] == ("20", "21")
    assert cells["mean, ms"] == ("20", "18.1")
    assert cells["of it before sending"] == ("0.5", "not counted")
    assert cells["of it in Triton"] == ("17.5", "17")
    assert cells["of it in network, gRPC, client"] == ("2", "1.1")
    assert cells["encodings from the cache"] == ("40 %", "40 %")
    assert not any("several pictures" in sentence for sentence in opinion.explanations)


def test_requests_of_several_pictures_are_said_to_be_different(tmp_path: Path) -> None:
    run = make_run(tmp_path, np.full(1200, 20.0))
    albums = replace(run, records=replace(run.records, rows=np.full(1200, 2, dtype=np.int16)))
    assert any("several pictures" in sentence for sentence in compare(albums, PERF_ANALYZER).explanations)


def test_a_run_without_samples_or_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadtestError, match="no samples of Triton"):
        compare(make_run(tmp_path / "a", np.full(1200, 20.0), samples=False), PERF_ANALYZER)
    with pytest.raises(LoadtestError, match="no answers"):
        compare(make_run(tmp_path / "b", np.full(1200, 20.0), failed=np.ones(1200, dtype=bool)), PERF_ANALYZER)


def test_a_result_is_kept(tmp_path: Path) -> None:
    save_result(tmp_path / "result.json", PERF_ANALYZER)
    assert load_result(tmp_path / "result.json") == PERF_ANALYZER
    (tmp_path / "result.json").write_text('{"seconds": 3}')
    with pytest.raises(LoadtestError, match=r"result\.json is not a result of perf_analyzer"):
        load_result(tmp_path / "result.json")


def test_without_network_the_error_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(LoadtestError, match=r"could not be downloaded .* tritonclient==2\.51\.0 .* put it into"):
        fetch(tmp_path)
    assert not (tmp_path / "perf_analyzer").exists()
