"""Which release answers which user, and what the callers notice of a candidate that fails or is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from altreco_client import AsyncTagRecommender, InvalidRequest, Recommendation, TagRecommender
from altreco_client.call import candidate as known
from altreco_client.call.candidate import position

from tests.client.odd_server import PICTURE, TAGS, Odd, serving

USERS = [f"user-{i}" for i in range(2000)]
HISTORY = {"sky": 1.0}


def taken(share: float, release: str = "8") -> set[str]:
    return {user for user in USERS if position(user, release) < share}


def ask(kind: str, url: str, users: list[str | None], **settings: Any) -> list[Recommendation]:
    """The answers of one client, one after the other."""
    if kind == "sync":
        with TagRecommender(url, **settings) as client:
            return [client.recommend(PICTURE, HISTORY, k=2, user=user) for user in users]

    async def run() -> list[Recommendation]:
        async with AsyncTagRecommender(url, **settings) as client:
            return [await client.recommend(PICTURE, HISTORY, k=2, user=user) for user in users]

    return asyncio.run(run())


def versions(answers: list[Recommendation]) -> list[str | None]:
    return [answer.model_version for answer in answers]


def test_a_larger_share_keeps_the_users_of_a_smaller_one_and_another_candidate_gets_others() -> None:
    assert taken(0.05) < taken(0.2) < taken(1) == set(USERS)
    assert taken(0) == set()
    assert 0.17 < len(taken(0.2)) / len(USERS) < 0.23
    both = len(taken(0.2, "8") & taken(0.2, "9"))
    assert 0.02 < both / len(USERS) < 0.06  # independent of each other: 4 %


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_each_user_stays_with_one_release_in_all_clients(kind: str) -> None:
    with serving(Odd(release="7", candidate=Odd(release="8", tags=TAGS[::-1]))) as url:
        users: list[str | None] = [*USERS[:40], None]
        first, second = (ask(kind, url, users, candidate_share=0.3) for _ in range(2))
        assert versions(first) == ["8" if user in taken(0.3) else "7" for user in users]
        assert versions(second) == versions(first)
        # Each has its own vocabulary: the candidate's classes are in another order.
        assert {(answer.model_version, answer.tags[0].name) for answer in first} == {("7", TAGS[0]), ("8", TAGS[-1])}
        assert set(versions(ask(kind, url, users))) == {"7"}


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_without_a_candidate_the_release_answers_at_once_and_nobody_asks_for_a_minute(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Odd(release="7")
    with serving(odd) as url:
        assert set(versions(ask(kind, url, [*USERS[:20]], candidate_share=1))) == {"7"}
        assert len(odd.missed) == 1  # no second attempt, and none for the other users
        monkeypatch.setattr(known, "ABSENT_S", 0)
        ask(kind, url, [*USERS[:3]], candidate_share=1)
        assert len(odd.missed) == 4


def test_a_candidate_that_is_unloaded_is_not_asked_again_and_one_that_follows_is_noticed() -> None:
    odd = Odd(release="7", candidate=Odd(release="8"))
    with serving(odd) as url, TagRecommender(url, candidate_share=0.5) as client:

        def answered_by(user: str) -> str | None:
            return client.recommend(PICTURE, k=2, user=user).model_version

        eight, only_eight = (next(iter(users)) for users in (taken(0.5), taken(0.5, "8") - taken(0.5, "9")))
        assert answered_by(eight) == "8"
        odd.candidate = Odd(release="9")
        assert answered_by(eight) == "9"  # by the number known so far
        assert answered_by(only_eight) == "7"
        odd.candidate = None
        nine = next(iter(taken(0.5, "9")))
        assert [answered_by(nine) for _ in range(5)] == ["7"] * 5
        assert len(odd.missed) <= 3  # once, and for the vocabulary of a model that might have changed


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
@pytest.mark.parametrize(
    "candidate",
    [
        Odd(release="8", abort=(grpc.StatusCode.INTERNAL, "broken")),
        Odd(release="8", abort=(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape")),
        Odd(release="8", tags=("sea", "sea")),
    ],
    ids=["fails", "refuses", "has no vocabulary"],
)
def test_the_release_answers_for_a_candidate_that_cannot(kind: str, candidate: Odd) -> None:
    with serving(Odd(release="7", candidate=candidate)) as url:
        assert versions(ask(kind, url, [*USERS[:3]], candidate_share=1)) == ["7"] * 3
    assert candidate.asked


def test_the_share_may_be_a_function() -> None:
    share = 0.0
    with (
        serving(Odd(release="7", candidate=Odd(release="8"))) as url,
        TagRecommender(url, candidate_share=lambda: share) as client,
    ):
        assert client.recommend(PICTURE, k=2, user="ana").model_version == "7"
        share = 1.0
        assert client.recommend(PICTURE, k=2, user="ana").model_version == "8"
        assert client.recommend_batch([PICTURE, PICTURE], k=2, user="ana")[1].model_version == "8"
        assert client.recommend(PICTURE, k=2).model_version == "7"
        share = 2.0
        with pytest.raises(InvalidRequest, match=r"candidate_share\(\) is 2.0: expected a share from 0 to 1"):
            client.recommend(PICTURE, user="ana")


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), True, "0.1", None])
def test_a_share_that_is_none_is_refused(share: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"candidate_share is .*: expected a share from 0 to 1"):
        TagRecommender("localhost:1", candidate_share=share)


@pytest.mark.parametrize("user", ["", 7, b"ana", "a\nb", "u" * 1001])
def test_a_user_that_is_no_id_is_refused(user: Any) -> None:
    with TagRecommender("localhost:1") as client, pytest.raises(InvalidRequest, match=r"user .*: expected a str"):
        client.recommend(PICTURE, user=user)
