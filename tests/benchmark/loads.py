"""What every measured load must hold."""

from typing import Any

import pytest

from benchmark.settings import QUICK

PER_ROUND = {"p50_ms", "p99_ms", "requests_per_s", "hit_rate"}


def assert_a_figure_a_round(load: dict[str, Any]) -> None:
    for figures in (figures for phases in load.values() for figures in phases.values()):
        assert set(figures) == PER_ROUND
        assert {len(values) for values in figures.values()} == {QUICK.rounds}
        assert min(figures["p50_ms"]) > 0
        assert all(p99 >= p50 for p50, p99 in zip(figures["p50_ms"], figures["p99_ms"], strict=True))
        assert min(figures["requests_per_s"]) > 0


def assert_hit_rates(load: dict[str, Any], asked: dict[str, float]) -> None:
    """`asked`: kind of load to its rate."""
    measured = {name.partition(",")[0]: figures for name, figures in load.items()}
    assert set(measured) == set(asked)
    for name, rate in asked.items():
        for found, per_s in zip(measured[name]["hit_rate"], measured[name]["requests_per_s"], strict=True):
            # Each caller's share is off by less than a call; a rate of 0 or 1 is exact.
            slack = QUICK.clients / (QUICK.window_s * per_s) if 0 < rate < 1 else 0
            assert found == pytest.approx(rate, abs=max(0.15, slack)), name
