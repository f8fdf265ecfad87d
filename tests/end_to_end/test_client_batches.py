"""Batches, many users and asyncio give what single calls give."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton
from altreco_client import (
    AsyncTagRecommender,
    InvalidHistory,
    InvalidImage,
    PreparedImage,
    Recommendation,
    TagHistory,
    TagRecommender,
    UnknownTag,
)

from measure.waiting import wait_until
from tests.end_to_end.conftest import Served

USERS = [None, *({f"tag-{i}": 2, f"tag-{i + 1}": 1} for i in range(39))]


@pytest.fixture(scope="module")
def pictures() -> list[PreparedImage]:
    rng = np.random.default_rng(11)
    return [PreparedImage(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)) for _ in USERS]


@pytest.fixture(scope="module")
def singles(recommender: TagRecommender, pictures: list[PreparedImage]) -> list[Recommendation]:
    return [recommender.recommend(*pair) for pair in zip(pictures, USERS, strict=True)]


@pytest.fixture(scope="module")
def statistics(served: Served) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(served.server.grpc_url) as client:
        yield client


def assert_same(answers: tuple[Recommendation, ...], expected: list[Recommendation]) -> None:
    """The same tags; a score may differ in its last digits, as batches are computed in another order."""
    assert len(answers) == len(expected)
    for answer, single in zip(answers, expected, strict=True):
        assert [tag.score for tag in answer.tags] == pytest.approx([tag.score for tag in single.tags], abs=1e-5)
        assert {tag.name for tag in answer.tags if tag.score > single.tags[-1].score + 1e-5} <= {
            tag.name for tag in single.tags
        }
        assert answer.model_version == single.model_version


def test_more_pairs_than_one_request_takes(
    recommender: TagRecommender, pictures: list[PreparedImage], singles: list[Recommendation]
) -> None:
    assert len(pictures) > 32
    assert_same(recommender.recommend_batch(pictures, USERS), singles)


def test_one_picture_for_many_users_is_encoded_once(
    recommender: TagRecommender, pictures: list[PreparedImage], statistics: triton.InferenceServerClient
) -> None:
    picture = PreparedImage(255 - pictures[0].tensor)

    def encoded() -> int:
        return int(statistics.get_inference_statistics("visual_encoder").model_stats[0].inference_count)

    before = encoded()
    answers = recommender.recommend_for_users(picture, USERS)
    wait_until(lambda: encoded() > before)  # Triton counts a request after its answer, also one before this test
    assert encoded() - before < len(USERS) // 2
    assert_same(answers, [recommender.recommend(picture, user) for user in USERS])


def test_asyncio_gives_the_same(served: Served, pictures: list[PreparedImage], singles: list[Recommendation]) -> None:
    async def ask() -> None:
        async with AsyncTagRecommender(served.server.grpc_url, deadline_s=30) as recommender:
            assert await recommender.ready()
            assert len(await recommender.vocabulary) == 1540
            pairs = zip(pictures, USERS, strict=True)
            assert_same(tuple(await asyncio.gather(*(recommender.recommend(*pair) for pair in pairs))), singles)
            assert_same(await recommender.recommend_batch(pictures, USERS), singles)
            first, _ = await recommender.recommend_for_users(pictures[0], [None, USERS[1]])
            assert_same((first,), singles[:1])

    asyncio.run(ask())


def test_no_pictures_and_no_users_are_no_answers(recommender: TagRecommender, pictures: list[PreparedImage]) -> None:
    assert recommender.recommend_batch([], []) == ()
    assert recommender.recommend_for_users(pictures[0], []) == ()


def test_one_bad_member_refuses_the_batch_and_says_what_is_wrong(
    recommender: TagRecommender, pictures: list[PreparedImage]
) -> None:
    with pytest.raises(InvalidImage, match="cannot read"):
        recommender.recommend_batch([pictures[0], b"no image"])
    with pytest.raises(InvalidHistory, match="tag-1"):
        recommender.recommend_for_users(pictures[0], [None, {"tag-1": -1}])


def test_unknown_tags_of_a_kept_history_are_left_out_and_named(
    recommender: TagRecommender, pictures: list[PreparedImage]
) -> None:
    history = TagHistory({"tag-1": 2, "zeppelin": 5})
    answer, plain = recommender.recommend_batch([pictures[0]] * 2, [history, {"tag-1": 2}])
    assert answer.unknown_tags == ("zeppelin",)
    assert plain.unknown_tags == ()
    assert answer.tags == plain.tags
    with pytest.raises(UnknownTag, match="zeppelin"):
        recommender.recommend(pictures[0], dict(history))
    with pytest.raises(UnknownTag, match="zeppelin"):
        recommender.recommend(pictures[0], history, unknown_tags="error")
