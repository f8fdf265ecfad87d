"""NVIDIA's perf_analyzer itself, from PyPI, against a real Triton."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from loadtest.errors import LoadtestError
from loadtest.records import OPINION_FILE
from loadtest.run.sampler import sampling
from loadtest.second_opinion.compare import second_opinion
from loadtest.second_opinion.perf_analyzer import analyze, fetch, load_result
from measure.markdown import number
from tests.end_to_end.conftest import Served
from tests.loadtest.make_run import make_run, poisson
from tests.servers import serving

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "build" / "perf_analyzer"


@pytest.fixture(scope="module", autouse=True)
def _executable() -> None:
    try:
        fetch(FOLDER)
    except LoadtestError as error:
        pytest.skip(f"perf_analyzer cannot be had here: {error}")


@pytest.mark.timing
def test_it_keeps_the_rate_and_asks_for_the_pictures_that_it_was_given(served: Served) -> None:
    schedule = poisson(20, 6, repeated=0.5, seed=1)
    with sampling(served.server.grpc_url, [], None, every_s=10) as samples:
        result = analyze(served.server.grpc_url, schedule, folder=FOLDER)
    assert result.requests_per_s == pytest.approx(len(schedule.arrivals_s) / schedule.seconds, rel=0.1)
    assert 0 < result.p50_ms <= result.p90_ms <= result.p95_ms <= result.p99_ms < 30_000
    assert 0 < result.server_ms < result.mean_ms
    again = 1 - len(np.unique(schedule.picture)) / len(schedule.picture)
    assert result.hit_share == pytest.approx(again, abs=0.1)
    asked = [sample["models"]["tag_recommender"]["requests"] for sample in (samples[0], samples[-1])]
    assert asked[1] - asked[0] >= 0.9 * len(schedule.arrivals_s)


def test_other_pictures_each_time(served: Served) -> None:
    schedule = poisson(15, 3, seed=2)
    shares = [analyze(served.server.grpc_url, schedule, folder=FOLDER).hit_share for _ in range(2)]
    assert max(shares) < 0.15  # the few that came round again


@pytest.mark.timing
def test_a_run_is_repeated_and_the_result_kept_beside_it(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER.parents[1])
    run = make_run(tmp_path, np.full(80, 20.0), duration_s=4)
    opinion = second_opinion(run, served.server.grpc_url)
    result = load_result(tmp_path / OPINION_FILE)
    cells = {name: (locust, other) for name, locust, other in opinion.table[1]}
    assert float(cells["requests per second"][1]) == pytest.approx(20, rel=0.15)
    assert cells["p90, ms"] == ("20", number(result.p90_ms))
    assert "p99, ms" not in cells  # of 80 requests
    assert result.hit_share == pytest.approx(0.4, abs=0.1)  # as in the run


def test_no_server_is_an_error() -> None:
    with pytest.raises(LoadtestError, match=r"no server for perf_analyzer: 127\.0\.0\.1:9 does not answer"):
        analyze("127.0.0.1:9", poisson(20, 3), folder=FOLDER)


def test_a_server_that_dies_is_an_error_in_its_own_words(served: Served) -> None:
    with (
        serving(served.repository, strict=False) as server,
        sampling(server.grpc_url, [], None, every_s=0.1) as samples,
        ThreadPoolExecutor(1) as killer,
    ):

        def kill_under_load() -> None:
            before = samples[0]["models"]["tag_recommender"]["requests"]
            while samples[-1]["models"]["tag_recommender"]["requests"] < before + 10:
                assert "ended" not in samples[-1]
            os.kill(server.pid, signal.SIGKILL)

        killed = killer.submit(kill_under_load)
        with pytest.raises(LoadtestError, match=r"perf_analyzer failed \(exit code \d+\): .+"):
            analyze(server.grpc_url, poisson(20, 20), folder=FOLDER)
        killed.result()
