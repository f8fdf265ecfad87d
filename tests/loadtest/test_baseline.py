import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from loadtest.errors import LoadtestError
from loadtest.judge.baseline import T_QUANTILES, Change, Comparison, compare, interval, load_baseline, save_baseline
from loadtest.records import Run
from tests.loadtest.make_run import lognormal, make_run, workload


def test_the_quantiles_are_students() -> None:
    assert pytest.approx(stats.t.ppf(0.975, np.arange(1, len(T_QUANTILES) + 1)), abs=6e-4) == T_QUANTILES


def test_the_interval_of_a_mean() -> None:
    values = [10.0, 12.0, 11.0, 15.0]
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert interval(values) == pytest.approx(expected, rel=1e-3)
    assert interval([3.0]) is None


def test_a_change_is_found_with_its_size(tmp_path: Path) -> None:
    before = _runs(tmp_path / "before", [1.0, 1.01, 0.99, 1.02, 0.98])
    now = _runs(tmp_path / "now", [1.2, 1.22, 1.19, 1.21, 1.18])
    changes = _changes(tmp_path, before, now)
    change = changes["all.p50_ms"]
    assert change.verdict == "worse"
    assert change.interval is not None
    assert change.interval[0] < 20 < change.interval[1]
    assert change.change == pytest.approx(20, abs=0.5)
    assert change.statement.startswith("worse by 20.0 % (95 % interval 1")
    back = _changes(tmp_path, now, before)["all.p50_ms"]
    assert back.verdict == "better"
    assert back.statement.startswith("better by 16.7 % (95 % interval 1")
    assert changes["all.error_share"].verdict == "same"


def test_the_interval_is_welchs_on_logarithms(tmp_path: Path) -> None:
    scales = [1.0, 1.1, 0.95, 1.05, 0.9], [1.02, 1.2, 1.01, 1.15, 1.12]
    before, now = (_runs(tmp_path / str(i), scale) for i, scale in enumerate(scales))
    change = _changes(tmp_path, before, now)["all.p50_ms"]
    expected = stats.ttest_ind(np.log(scales[1]), np.log(scales[0]), equal_var=False).confidence_interval(0.95)
    assert change.interval is not None
    # Degrees of freedom are rounded down: a little wider, never narrower.
    assert change.interval[0] <= 100 * np.expm1(expected.low)
    assert change.interval == pytest.approx([100 * np.expm1(expected.low), 100 * np.expm1(expected.high)], abs=0.6)


def test_noise_is_no_change(tmp_path: Path) -> None:
    """About one in twenty comparisons without a difference shows one."""
    rng = np.random.default_rng(0)
    shown = 0
    for trial in range(40):
        scales = np.exp(0.05 * rng.standard_normal((2, 4)))
        before, now = (_runs(tmp_path / f"{trial}-{i}", scale) for i, scale in enumerate(scales))
        change = _changes(tmp_path, before, now)["all.p50_ms"]
        shown += change.verdict != "same"
        assert ("no difference shown" in change.statement) == (change.verdict == "same")
    assert shown <= 6  # 7 of 40 would happen once in 500 times by chance


def test_throughput_that_falls_is_worse(tmp_path: Path) -> None:
    before = [make_run(tmp_path / f"b{i}", lognormal(1000 + i)) for i in range(3)]
    now = [make_run(tmp_path / f"n{i}", lognormal(900 + i)) for i in range(3)]
    change = _changes(tmp_path, before, now)["all.requests_per_s"]
    assert change.verdict == "worse"
    assert change.change == pytest.approx(-10, abs=0.3)
    assert change.interval is not None
    assert change.interval[0] < change.change < change.interval[1]


def test_errors_are_compared_in_points(tmp_path: Path) -> None:
    before = [make_run(tmp_path / f"b{i}", lognormal(1000)) for i in range(3)]
    now = [make_run(tmp_path / f"n{i}", lognormal(1000), failed=np.arange(1000) < 20 + i) for i in range(3)]
    change = _changes(tmp_path, before, now)["all.error_share"]
    assert (change.verdict, change.unit) == ("worse", "points")
    assert change.change == pytest.approx(2.1)


def test_no_interval_of_runs_that_differ_much_is_below_zero(tmp_path: Path) -> None:
    before, now = (_runs(tmp_path / str(i), scales) for i, scales in enumerate(([1, 5, 1.1], [1, 40, 0.9])))
    changes = _changes(tmp_path, before, now)
    for change in changes.values():
        for center, span in ((change.before, change.before_interval), (change.now, change.now_interval)):
            assert span is not None
            assert 0 <= span[0] <= center <= span[1]
        assert change.interval is not None
        assert change.interval[0] > -100
        assert change.verdict == "same"
    p50 = changes["all.p50_ms"]
    assert p50.now == pytest.approx(20 * (1 * 40 * 0.9) ** (1 / 3), rel=0.05)
    assert re.search(r"no difference shown \(95 % interval of the change: -\d\S* to \+\d\S* %\)", p50.statement)


def test_one_run_is_no_statement(tmp_path: Path) -> None:
    changes = _changes(tmp_path, _runs(tmp_path / "b", [1.0, 1.1]), _runs(tmp_path / "n", [2.0]))
    assert changes["all.p50_ms"].verdict == "same"
    assert "repeat it" in changes["all.p50_ms"].statement


def test_percentiles_of_too_few_requests_are_left_out(tmp_path: Path) -> None:
    changes = _changes(tmp_path, _runs(tmp_path / "b", [1, 1.1]), _runs(tmp_path / "n", [1, 1.1]))
    assert "all.p99_ms" in changes
    assert "all.p99_9_ms" not in changes
    assert "cold.p99_ms" not in changes


def test_another_load_is_refused(tmp_path: Path) -> None:
    save_baseline(tmp_path / "baseline.json", _runs(tmp_path / "b", [1.0, 1.1]))
    other = make_run(tmp_path / "n", lognormal(600), settings={"workload": workload(cold_share=0.9)})
    with pytest.raises(LoadtestError, match=r"another workload .*cold_share: 0\.2, now 0\.9"):
        compare(load_baseline(tmp_path / "baseline.json"), [other])
    with pytest.raises(LoadtestError, match="differ in their workload"):
        save_baseline(tmp_path / "baseline.json", [*_runs(tmp_path / "b", [1.0]), other])


def test_another_machine_is_told(tmp_path: Path) -> None:
    environment = {"machine": "4 cores", "versions": {"locust": "2.47.0"}, "git": "0123abc"}
    now = [make_run(tmp_path / "n", lognormal(600), settings={"environment": environment})]
    comparison = _compared(tmp_path, _runs(tmp_path / "b", [1.0]), now)
    assert "machine: 2 cores of a processor, now 4 cores" in comparison.differences[0]


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', '{"format": "altreco-loadtest-baseline-1"}'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "baseline.json").write_text(text)
    with pytest.raises(LoadtestError, match="is not a baseline"):
        load_baseline(tmp_path / "baseline.json")


def test_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(LoadtestError, match="save one first"):
        load_baseline(tmp_path / "baseline.json")
    with pytest.raises(LoadtestError, match="no runs"):
        save_baseline(tmp_path / "baseline.json", [])
    with pytest.raises(LoadtestError, match="no request was answered"):
        save_baseline(tmp_path / "baseline.json", [make_run(tmp_path / "none", np.empty(0))])


def _runs(folder: Path, scales: Sequence[float]) -> list[Run]:
    return [make_run(folder / str(i), lognormal(600) * scale) for i, scale in enumerate(scales)]


def _compared(folder: Path, before: Sequence[Run], now: Sequence[Run]) -> Comparison:
    save_baseline(folder / "baseline.json", before)
    return compare(load_baseline(folder / "baseline.json"), now)


def _changes(folder: Path, before: Sequence[Run], now: Sequence[Run]) -> dict[str, Change]:
    return {change.metric: change for change in _compared(folder, before, now).changes}
