import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.capacity.report import curve
from loadtest.capacity.search import (
    Capacity,
    Search,
    Step,
    judged,
    save_capacity,
    search,
    step_s,
    without_throughput,
)
from loadtest.commands import capacity as capacity_command
from loadtest.errors import LoadtestError
from loadtest.judge.slo import Limits, SLOs
from loadtest.records import Run
from tests.loadtest.make_run import lognormal, make_run

SLO = SLOs(name="x", all=Limits(p50_ms=40, p99_ms=100, requests_per_s=1000))


def server(knee_per_s: float, *, noise: float = 0, seed: int = 0, valid: bool = True) -> Callable[[float], Step]:
    """Holds up to its knee, which is another in every run, by a share of `noise`."""
    rng = np.random.default_rng(seed)

    def measured(rate: float) -> Step:
        held = bool(rate <= knee_per_s * np.exp(noise * rng.standard_normal()))
        return step(rate, held=held, valid=held or valid)

    return measured


def step(rate: float, *, held: bool, valid: bool = True) -> Step:
    return Step(
        rate_per_s=rate,
        answered_per_s=rate,
        error_share=0,
        p50_ms=20,
        p95_ms=40,
        p99_ms=50 if held else 500,
        held=held,
        valid=valid,
        reason="" if held else "too slow",
    )


@pytest.mark.parametrize("knee", [0.7, 5, 31, 100, 999])
def test_the_knee_is_found(knee: float) -> None:
    found = search(server(knee), Search(), lambda _: None)
    assert found.rate_per_s is not None
    assert knee / 1.05 <= found.rate_per_s <= knee
    assert found.fails_per_s is not None
    assert knee < found.fails_per_s <= found.rate_per_s * 1.05


@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_noise_moves_it_little(noise: float) -> None:
    found = [search(server(100, noise=noise, seed=seed), Search(), lambda _: None) for seed in range(100)]
    rates = np.array([of.rate_per_s for of in found], dtype=float)
    assert np.median(rates) == pytest.approx(100, rel=0.05)
    assert np.percentile(np.abs(np.log(rates / 100)), 90) < 0.05 + noise
    for of in found:
        assert of.rate_per_s is not None
        votes = of.votes()[of.rate_per_s]
        assert votes.count(True) == 2  # of 3, however the search came there


def test_a_lucky_run_is_not_the_capacity() -> None:
    """One run above the knee holds by chance: it is repeated, and the search goes back below."""
    seen: list[float] = []

    def measured(rate: float) -> Step:
        seen.append(rate)
        return step(rate, held=rate <= 100 or (rate > 100 and seen.count(rate) == 1 and rate < 120))

    found = search(measured, Search(), lambda _: None)
    assert found.rate_per_s is not None
    assert 95 < found.rate_per_s <= 100


def test_no_rate_holds() -> None:
    found = search(server(0.001), Search(start_per_s=5), lambda _: None)
    assert found.rate_per_s is None
    assert found.sentence.startswith("No rate met the SLOs, down to 0.0")


def test_a_ceiling_is_told() -> None:
    found = search(server(1e9), Search(most_per_s=200), lambda _: None)
    assert (found.rate_per_s, found.fails_per_s) == (200, None)
    assert "the capacity is at least that" in found.sentence


def test_the_generators_border_is_told() -> None:
    found = search(server(100, valid=False), Search(), lambda _: None)
    assert found.generator_bound
    assert "the load generator was at its limit" in found.sentence


def test_an_interrupted_search_keeps_its_steps(tmp_path: Path) -> None:
    path = tmp_path / "capacity.json"
    measured = server(100)

    def interrupted(rate: float) -> Step:
        if path.exists() and len(json.loads(path.read_text())["steps"]) == 9:
            raise KeyboardInterrupt
        return measured(rate)

    with pytest.raises(KeyboardInterrupt):
        search(interrupted, Search(), lambda capacity: save_capacity(path, capacity))
    kept = json.loads(path.read_text())
    assert len(kept["steps"]) == 9
    assert not kept["finished"]
    assert kept["rate_per_s"] <= 100
    assert kept["result"].endswith("The search was not finished")


@pytest.mark.parametrize(
    "settings",
    [
        {"start_per_s": 0},
        {"start_per_s": 10, "most_per_s": 5},
        {"growth": 1},
        {"precision": 0},
        {"repeats": 2},
        {"repeats": 0},
    ],
)
def test_a_search_without_end_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(LoadtestError):
        Search(**settings)  # type: ignore[arg-type]


def test_a_run_is_judged_without_throughput(tmp_path: Path) -> None:
    held = judged(make_run(tmp_path, lognormal(600)), SLO, 10)
    assert held.held
    assert held.rate_per_s == 10
    assert held.answered_per_s == pytest.approx(10, abs=0.1)
    slow = judged(make_run(tmp_path, lognormal(600, median_ms=80)), SLO, 10)
    assert not slow.held
    assert slow.valid
    assert "p99 of all requests" in slow.reason
    overloaded = judged(make_run(tmp_path, lognormal(600), cpu_share=0.99), SLO, 10)
    assert not overloaded.held
    assert not overloaded.valid
    assert without_throughput(SLO).all == Limits(p50_ms=40, p99_ms=100)


def test_too_few_requests_end_the_search(tmp_path: Path) -> None:
    with pytest.raises(LoadtestError, match="give longer --step-seconds"):
        judged(make_run(tmp_path, lognormal(100)), SLO, 10)


def test_a_step_is_long_enough() -> None:
    assert step_s(SLO, 1000, 0.05, 10) == 10
    assert step_s(SLO, 10, 0.05, 10) == pytest.approx(55)  # 500 requests for the p99, and a tenth more
    assert step_s(SLOs(name="x", all=Limits(p50_ms=1000)), 100, 0.05, 10) == pytest.approx(20)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that queues: it answers in 20 ms up to 50 requests a second, beyond that the wait grows."""
    slos = tmp_path / "slos.toml"
    slos.write_text("[all]\np99_ms = 200\n")
    arguments = _parsed("capacity", "--slos", str(slos), "--out", str(tmp_path / "out"), "--start", "20")

    def load(rate_per_s: float, seconds: float, folder: Path) -> Run:
        serial = np.arange(int(rate_per_s * seconds))
        waits = np.maximum(0, serial / 50 - serial / rate_per_s) * 1000
        return make_run(folder, lognormal(len(serial)) + waits, duration_s=seconds)

    assert capacity_command.run(arguments, load) == 0
    out = tmp_path / "out"
    found = json.loads((out / "capacity.json").read_text())
    assert 45 < found["rate_per_s"] < 51
    assert found["finished"]
    assert (out / "capacity.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "capacity.html").read_text()
    assert "<svg" in page
    assert "requests per second met the SLOs" in page
    assert "met the SLOs" in capsys.readouterr().out
    assert len(list(out.glob("step-*/records.npz"))) == len(found["steps"])


def test_the_command_without_capacity(tmp_path: Path) -> None:
    slos = tmp_path / "slos.toml"
    slos.write_text("[all]\np50_ms = 1\n")
    arguments = _parsed("capacity", "--slos", str(slos), "--out", str(tmp_path / "out"), "--growth", "4")

    def load(rate_per_s: float, seconds: float, folder: Path) -> Run:
        return make_run(folder, lognormal(int(rate_per_s * seconds)), duration_s=seconds)

    assert capacity_command.run(arguments, load) == 1
    assert "NONE" in (tmp_path / "out" / "capacity.html").read_text()


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1"])
def test_steps_that_cannot_be_are_refused(tmp_path: Path, seconds: str) -> None:
    (tmp_path / "slos.toml").write_text("[all]\np50_ms = 1\n")
    arguments = _parsed("capacity", "--slos", str(tmp_path / "slos.toml"), "--step-seconds", seconds)
    with pytest.raises(LoadtestError, match=f"--step-seconds is {seconds}, expected seconds, 0 or more"):
        capacity_command.run(arguments, lambda *_: pytest.fail("nothing is to be loaded"))


def test_a_search_so_far_is_drawn(tmp_path: Path) -> None:
    capacity = Capacity(search=Search(), steps=(step(5, held=True),), finished=False)
    settings = make_run(tmp_path, lognormal(10)).settings
    page = capacity_command.write_capacity_report(tmp_path, capacity, SLO, settings)
    assert "The search was not finished" in page.read_text()


def test_the_curve_begins_at_its_rates_and_crosses_what_was_missed() -> None:
    steps = (step(10, held=True), step(12, held=False), replace(step(14, held=False), p99_ms=90))
    axis = curve(Capacity(search=Search(), steps=steps, finished=True), SLO).axes[0]
    assert 9 < axis.get_xlim()[0] < 10
    drawn = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axis.lines}
    assert drawn["above its limit"] == [[12, 500]]
    assert drawn["another objective missed"] == [[14, 90]]


def _parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    capacity_command.add_parser(parser.add_subparsers())
    return parser.parse_args(words)
