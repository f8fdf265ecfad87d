"""Clients that wait for their server, are closed while they ask, or are used in two event loops."""

import asyncio
import sys
import threading

import pytest
from altreco_client import (
    AsyncTagRecommender,
    DeadlineExceeded,
    InvalidRequest,
    Recommendation,
    Tag,
    TagRecommender,
    Unavailable,
)

from tests.client.odd_server import PICTURE, WAIT_S, Odd, closed_port, serving, wait_until

HISTORY = {"sky": 1, "sea": 4}


def unready(recommender: TagRecommender) -> str:
    with pytest.raises((Unavailable, DeadlineExceeded)) as refused:
        recommender.wait_ready(0.3)
    return str(refused.value)


def test_a_client_waits_for_a_server_that_starts() -> None:
    url, odd = closed_port(), Odd()

    async def wait() -> Recommendation:
        async with AsyncTagRecommender(url) as recommender:
            await recommender.wait_ready(WAIT_S)
            return await recommender.recommend(PICTURE, None, 1)

    with TagRecommender(url) as recommender:
        wait_until(lambda: "does not answer" in unready(recommender))
        waiting = threading.Thread(target=recommender.wait_ready, args=(WAIT_S,))
        waiting.start()
        with serving(odd, url, going=False):
            wait_until(lambda: "'tag_recommender' is not loaded" in unready(recommender))
            assert waiting.is_alive()
            odd.go.set()
            waiting.join(WAIT_S)
            assert not waiting.is_alive()
            assert recommender.recommend(PICTURE, None, 1).tags
            assert asyncio.run(wait()).tags
    with pytest.raises(InvalidRequest, match="timeout_s is 0"), TagRecommender(url) as recommender:
        recommender.wait_ready(0)


def test_calls_under_way_are_told_that_their_client_was_closed() -> None:
    odd, errors, answers = Odd(), list[BaseException](), list[Recommendation]()

    def ask(fallback: bool) -> None:
        try:
            answers.append(recommender.recommend(PICTURE, HISTORY, 1, fallback="history" if fallback else None))
        except BaseException as error:  # noqa: BLE001 - whatever it is
            errors.append(error)

    with serving(odd) as url:
        recommender = TagRecommender(url, deadline_s=WAIT_S)
        recommender.recommend(PICTURE, None, 1)
        odd.go.clear()
        odd.asked = []
        callers = [threading.Thread(target=ask, args=(i % 2 == 0,)) for i in range(4)]
        for caller in callers:
            caller.start()
        wait_until(lambda: len(odd.asked) == 4)
        recommender.close()
        for caller in callers:
            caller.join(WAIT_S)
    assert [str(error) for error in errors] == ["this client was closed while the call was under way"] * 2
    assert {type(error) for error in errors} == {Unavailable}
    assert [answer.tags for answer in answers] == [(Tag("sea", 1.0),)] * 2


def test_tasks_under_way_are_told_and_only_cancelled_ones_are_cancelled() -> None:
    odd = Odd()

    async def close() -> list[Recommendation | BaseException]:
        recommender = AsyncTagRecommender(url, deadline_s=WAIT_S)
        await recommender.recommend(PICTURE, None, 1)
        odd.go.clear()
        odd.asked = []
        options: list[dict] = [{}, {"fallback": "history"}, {"request_id": "cancelled"}]
        tasks = [asyncio.create_task(recommender.recommend(PICTURE, HISTORY, 1, **each)) for each in options]
        await asyncio.to_thread(wait_until, lambda: len(odd.asked) == 3)
        tasks[2].cancel()
        await recommender.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with serving(odd) as url:
        told, fallen, cancelled = asyncio.run(close())
    assert isinstance(told, Unavailable)
    assert "closed while the call was under way" in str(told)
    assert isinstance(fallen, Recommendation)
    assert isinstance(fallen.fallback, Unavailable)
    if sys.version_info >= (3, 11):  # before, Python cannot tell who cancelled a task
        assert isinstance(cancelled, asyncio.CancelledError)


def test_an_asyncio_client_belongs_to_the_loop_of_its_first_call() -> None:
    with serving(Odd()) as url:
        recommender = AsyncTagRecommender(url)  # at module level, say

        async def ask() -> Recommendation:
            return await recommender.recommend(PICTURE, None, 1)

        assert asyncio.run(ask()).tags
        with pytest.raises(InvalidRequest, match=r"another event loop.* make one in each loop"):
            asyncio.run(ask())
        asyncio.run(recommender.close())
        with pytest.raises(InvalidRequest, match="was closed"):
            asyncio.run(ask())


def test_a_server_that_never_answers_is_waited_for_as_long_as_was_asked() -> None:
    with (
        serving(Odd(), going=False) as url,
        TagRecommender(url) as recommender,
        pytest.raises(DeadlineExceeded, match=r"0\.2 s"),
    ):
        recommender.recommend(PICTURE, deadline_s=0.2)
