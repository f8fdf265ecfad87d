"""The scenarios of overload.py, shorter than for the report, on a model whose capacity is the test's."""

import pytest

from reliability.overload import full_queue, overload
from reliability.slow_model import SlowModel


@pytest.mark.slow
@pytest.mark.timing
def test_a_crowd_is_refused_before_it_fills_the_queue(slow: SlowModel) -> None:
    slow.take(0.3)
    outcome = full_queue(slow.repository, callers=160, deadline_s=3.0, crowd_s=6, window_s=2)
    assert outcome.missed == []
    assert "Overloaded" in outcome.figures["calls of these that failed"]
    assert int(outcome.figures["largest number of waiting requests"]) < 80


@pytest.mark.slow
@pytest.mark.timing
def test_an_overload_is_turned_away_and_over_when_it_ends(slow: SlowModel) -> None:
    slow.take(0.3)
    outcome = overload(
        slow.repository,
        times=3,
        load_s=8,
        deadline_s=3.0,
        users=16,
        capacity_s=4,
        window_s=2,
        least_answered=0.6,  # of a short load, in which the limit has not found its size yet
    )
    assert outcome.missed == []
    assert "Overloaded" in outcome.figures["failed"]
    emptied = outcome.figures["time until the queue was empty, after the last request had ended"]
    assert float(emptied.removesuffix(" s at most")) < 3


def test_what_it_can_do_is_no_overload(slow: SlowModel) -> None:
    slow.take(0.05)
    outcome = full_queue(slow.repository, callers=2, deadline_s=10.0, crowd_s=1, window_s=0.5)
    assert outcome.missed == ["the load was too much: some calls failed, but not all"]
