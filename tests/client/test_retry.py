import pytest
from altreco_client import (
    Channel,
    ContractMismatch,
    DeadlineExceeded,
    Overloaded,
    ServerError,
    ServerFailed,
    ServerRejected,
    TLSFailed,
    Unavailable,
)
from altreco_client.call.retry import BUDGET, REFILL, Retries

GONE = Unavailable("gone")


def test_waits_double_to_a_limit_and_are_jittered() -> None:
    for attempt, longest in ((1, 0.1), (2, 0.2), (3, 0.3), (8, 0.3)):
        retries = Retries(Channel(max_attempts=9, backoff_s=0.1, max_backoff_s=0.3))
        waits = [retries.pause_s(GONE, attempt) for _ in range(30)]
        assert all(wait is not None and longest / 2 <= wait <= longest for wait in waits)
        assert len(set(waits)) > 1


def test_the_last_attempt_is_the_last() -> None:
    retries = Retries(Channel(max_attempts=2))
    assert retries.pause_s(GONE, 1) is not None
    assert retries.pause_s(GONE, 2) is None
    assert Retries(Channel(max_attempts=1)).pause_s(GONE, 1) is None


@pytest.mark.parametrize("kind", [DeadlineExceeded, Overloaded, ServerRejected, ServerFailed, ContractMismatch])
def test_nothing_but_a_server_that_is_gone_is_asked_again(kind: type[ServerError]) -> None:
    assert Retries(Channel()).pause_s(kind("no"), 1) is None


def test_a_server_that_does_not_seem_to_be_trusted_is_asked_again_for_a_moment() -> None:
    """In which the connection is made anew: the first one's end may have looked like that."""
    channel = Channel()
    pauses = [Retries(channel).pause_s(TLSFailed("hung up"), attempt) for attempt in range(1, channel.max_attempts + 1)]
    given = [pause for pause in pauses if pause is not None]
    assert pauses[len(given) :] == [None] * (len(pauses) - len(given))
    assert 0.1 < sum(given) < 0.5
    assert Retries(Channel(max_attempts=1)).pause_s(TLSFailed("hung up"), 1) is None


def test_when_most_fail_nothing_is_asked_again_until_some_are_answered() -> None:
    retries = Retries(Channel())
    allowed = sum(retries.pause_s(GONE, 1) is not None for _ in range(2 * int(BUDGET)))
    assert allowed == BUDGET - 1
    for _ in range(int(2 / REFILL)):
        retries.answered()
    assert retries.pause_s(GONE, 1) is not None
