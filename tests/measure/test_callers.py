import math
import threading
import time
from itertools import count, repeat

import numpy as np
import pytest

from measure.callers import Call, Caller, Calls, Load, calling, closed_load, percentile, shared
from measure.waiting import wait_until


class Refused(Exception):
    pass


def test_a_percentile_is_an_observed_value_on_the_slow_side() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    assert [percentile(values, percent) for percent in (0, 50, 67, 99, 100)] == [1, 3, 4, 4, 4]
    assert percentile(np.arange(101), 99) == 99
    assert math.isnan(percentile([], 50))


def test_a_load_counts_and_times_every_request() -> None:
    load = Load(latencies_ms=[10.0, 20.0, 30.0], seconds=1.5, cpu_s=0.1)
    assert (load.per_second, load.percentile_ms(50), load.percentile_ms(99)) == (2, 20, 30)


def test_callers_share_requests_and_each_is_asked_once() -> None:
    asked: list[int] = []
    requests = shared(range(200))
    load = closed_load([Caller(asked.append, requests) for _ in range(4)])
    assert sorted(asked) == list(range(200))
    assert len(load.latencies_ms) == 200
    assert load.seconds >= max(load.latencies_ms) / 1000


def test_a_caller_asks_again_only_when_it_has_its_answer() -> None:
    together, most, lock = 0, 0, threading.Lock()

    def ask(_: int) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        barrier.wait()
        with lock:
            together -= 1

    barrier = threading.Barrier(3)
    closed_load([Caller(ask, range(5)) for _ in range(3)])
    assert most == 3


def test_a_load_ends_when_its_seconds_are_over_and_preparing_a_request_is_not_timed() -> None:
    def slowly_made() -> object:
        for number in count():
            time.sleep(0.02)  # stands for a request that takes long to make
            yield number

    load = closed_load([Caller(lambda _: None, slowly_made())], seconds=0.2)
    assert 0.2 <= load.seconds < 60
    assert 1 <= len(load.latencies_ms) <= 11
    assert min(load.latencies_ms) < 20


def test_the_first_error_ends_a_load_and_is_raised() -> None:
    def ask(number: int) -> None:
        if number == 3:
            raise Refused

    with pytest.raises(Refused):
        closed_load([Caller(ask, count()), Caller(lambda _: None, repeat(0))])


def test_calling_records_failures_until_the_block_is_left() -> None:
    def ask(number: int) -> int:
        if number % 2:
            raise Refused(str(number))
        return number

    with calling([Caller(ask, count()), Caller(ask, count())], failures=(Refused,)) as calls:
        wait_until(lambda: len(calls.failed) > 10)
    ended = len(calls.ended)
    assert {call.answer % 2 for call in calls.answered if call.answer is not None} == {0}
    assert set(calls.errors()) == {"Refused"}
    assert len(calls.answered) + len(calls.failed) == ended
    assert all(call.started_s <= call.ended_s for call in calls.ended)


def test_an_error_that_nobody_expected_ends_all_callers_and_is_raised_whatever_the_block_waited_for() -> None:
    called = threading.Event()

    def broken(_: int) -> None:
        called.set()
        raise ZeroDivisionError

    with (  # noqa: PT012
        pytest.raises(ZeroDivisionError) as raised,
        calling([Caller(broken, count()), Caller(lambda _: None, count())], failures=(Refused,)) as calls,
    ):
        called.wait(60)
        wait_until(lambda: bool(calls.failed), "a failure", seconds=0.2)
    assert isinstance(raised.value.__context__, TimeoutError)


def test_a_caller_calls_at_most_once_in_its_interval() -> None:
    with calling([Caller(lambda _: None, count())], every_s=0.05) as calls:
        wait_until(lambda: len(calls.ended) >= 4)
    starts = [call.started_s for call in calls.ended]
    assert min(np.diff(starts)) > 0.045


def test_calls_are_told_apart() -> None:
    calls = Calls([Call(0, 1, "a"), Call(0.5, 2, error=Refused()), Call(2, 5, "b")])
    assert [call.answer for call in calls.answered] == ["a", "b"]
    assert calls.errors() == {"Refused": 1}
    assert calls.slowest_s == 3
    assert calls.percentile_ms(99) == 3000
    assert calls.under_way(0.7).ended == calls.ended[:2]
    assert calls.since(0.5).ended == calls.ended[1:]
    assert calls.since(0.5, 2).ended == calls.ended[1:2]
    assert Calls[str]().slowest_s == 0
