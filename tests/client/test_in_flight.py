"""The limit of requests in flight, without a server."""

import time
from concurrent.futures import Future

import pytest
from altreco_client import Channel, InvalidRequest
from altreco_client.call.in_flight import START, InFlight

DEADLINE_S = 5.0


def fill(limit: InFlight) -> int:
    """Take slots until one has to be waited for; the number taken. The waiter gives up."""
    taken = 0
    while (waiter := limit.enter()) is None:
        taken += 1
    limit.give_up(waiter)
    return taken


def free(limit: InFlight, count: int, *, took_s: float, answered: bool = True) -> None:
    started = time.monotonic() - took_s
    for _ in range(count):
        limit.leave(started, DEADLINE_S, answered=answered)


def test_it_starts_with_room_for_a_burst() -> None:
    assert fill(InFlight("adaptive")) == START


def test_it_grows_by_about_one_a_round_trip_while_it_is_used() -> None:
    limit = InFlight("adaptive")
    for _ in range(8):
        for _ in range(fill(limit)):
            free(limit, 1, took_s=0.1)
            assert limit.enter() is None
        free(limit, limit.limit or 0, took_s=0.1)
    assert START + 4 <= (limit.limit or 0) <= START + 16


def test_it_does_not_grow_when_it_is_not_used() -> None:
    limit = InFlight("adaptive")
    for _ in range(100):
        assert limit.enter() is None
        free(limit, 1, took_s=0.01)
    assert limit.limit == START


def test_requests_that_fail_at_once_change_nothing() -> None:
    limit = InFlight("adaptive")
    for _ in range(20):
        free(limit, fill(limit), took_s=0.0, answered=False)
    assert limit.limit == START


def test_late_requests_of_one_round_trip_shrink_it_once() -> None:
    limit = InFlight("adaptive")
    free(limit, fill(limit), took_s=4.0)
    assert limit.limit == int(START * 0.8)


def test_it_never_shrinks_below_one_and_recovers() -> None:
    limit = InFlight("adaptive")
    for _ in range(40):
        assert limit.enter() is None
        started = time.monotonic()
        limit.leave(started, deadline_s=1e-9, answered=True)
    assert limit.limit == 1
    for _ in range(4):
        assert limit.enter() is None
        free(limit, 1, took_s=0.01)
    assert (limit.limit or 0) > 1


def test_who_waits_is_served_in_turn() -> None:
    limit = InFlight(1)
    assert limit.enter() is None
    first, second = limit.enter(), limit.enter()
    assert isinstance(first, Future)
    assert isinstance(second, Future)
    free(limit, 1, took_s=0.1)
    assert first.done()
    assert not second.done()
    free(limit, 1, took_s=0.1)
    assert second.done()


def test_a_slot_given_to_one_who_gave_up_goes_to_the_next() -> None:
    limit = InFlight(1)
    assert limit.enter() is None
    first, second = limit.enter(), limit.enter()
    assert first is not None
    assert second is not None
    free(limit, 1, took_s=0.1)
    limit.give_up(first)  # too late: it had the slot
    assert second.done()


def test_one_who_gives_up_leaves_the_queue() -> None:
    limit = InFlight(1)
    assert limit.enter() is None
    first, second = limit.enter(), limit.enter()
    assert first is not None
    assert second is not None
    limit.give_up(first)
    free(limit, 1, took_s=0.1)
    assert second.done()
    assert not first.done()


def test_the_wait_is_that_of_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = InFlight(2)
    assert fill(limit) == 2
    waiters = [limit.enter() for _ in range(3)]
    assert limit.wait_s() == 0  # nothing was answered yet
    free(limit, 1, took_s=0.4)  # two at a time, so one every 0.2 s
    assert limit.wait_s() == pytest.approx(2 * 0.2, rel=0.05)
    for waiter in waiters[1:]:
        assert waiter is not None
        limit.give_up(waiter)
    assert limit.wait_s() == 0


def test_an_answer_below_the_limit_does_not_tell_how_long_others_wait() -> None:
    limit = InFlight(2)
    assert limit.enter() is None
    free(limit, 1, took_s=10.0)
    assert fill(limit) == 2
    assert limit.enter() is not None
    assert limit.wait_s() == 0


def test_a_fixed_limit_stays_and_none_is_no_limit() -> None:
    fixed, unlimited = InFlight(2), InFlight(None)
    free(fixed, fill(fixed), took_s=4.0)
    assert fixed.limit == 2
    assert all(unlimited.enter() is None for _ in range(1000))
    assert unlimited.limit is None


@pytest.mark.parametrize("limit", [0, -1, 1.5, "auto", True, 10**400])
def test_other_limits_are_refused(limit: object) -> None:
    with pytest.raises(InvalidRequest, match='expected "adaptive", a whole number from 1 to 2,147,483,647, or None'):
        Channel(max_in_flight=limit)  # type: ignore[arg-type]
