"""Another vocabulary behind the same address: no history vector is ever aligned with the old one."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from altreco_client import PreparedImage, Recommendation, TagRecommender

from deploy.local import Server, on_free_ports, serve
from export.init import init_repository
from export.release import release
from tests.end_to_end.conftest import Served
from tests.tiny import REPOSITORY, save_tiny_checkpoint

PICTURE = PreparedImage(np.random.default_rng(3).integers(0, 256, (224, 224, 3), dtype=np.uint8))
HISTORY = {f"tag-{i}": float(i % 7 + 1) for i in range(0, 40, 3)}
Serve = Callable[[Path], AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def port(served: Served) -> int:
    """A port on which the servers of these tests come and go."""
    with serve(on_free_ports(served.repository, strict=True, stop_timeout_s=1)) as server:
        return int(server.grpc_url.rpartition(":")[2])


@pytest.fixture
def recommender(port: int) -> Iterator[TagRecommender]:
    """One that outlives the servers."""
    with TagRecommender(f"127.0.0.1:{port}", deadline_s=30) as recommender:
        yield recommender


@pytest.fixture(scope="module")
def serving(port: int) -> Serve:
    return lambda repository: serve(on_free_ports(repository, strict=True, stop_timeout_s=1, grpc_port=port))


def relabelled(repository: Path, copy: Path, order: list[int]) -> Path:
    """The same models under the same release number, whose classes have other names."""
    shutil.copytree(repository, copy)
    labels = copy / "classifier" / "tags.txt"
    tags = labels.read_text().splitlines()
    labels.write_text("".join(f"{tags[i]}\n" for i in order))
    return copy


def fresh(port: int, k: int = 5) -> Recommendation:
    """What a client answers that never saw another server."""
    with TagRecommender(f"127.0.0.1:{port}", deadline_s=30) as recommender:
        return recommender.recommend(PICTURE, HISTORY, k)


def test_a_repository_with_the_same_release_number_and_other_names(
    served: Served, recommender: TagRecommender, serving: Serve, port: int, tmp_path: Path
) -> None:
    reversed_names = relabelled(served.repository, tmp_path / "other", list(range(1539, -1, -1)))
    with serving(served.repository):
        recommender.recommend(PICTURE, HISTORY)
    with serving(reversed_names):
        after = recommender.recommend(PICTURE, HISTORY)
        assert after == fresh(port)
        misaligned = {f"tag-{1539 - int(tag.removeprefix('tag-'))}": count for tag, count in HISTORY.items()}
        assert after.tags != recommender.recommend(PICTURE, misaligned).tags, "the order of the vector must matter"
        assert recommender.vocabulary.tags == tuple(f"tag-{i}" for i in range(1539, -1, -1))
        assert recommender.recommend_for_users(PICTURE, [HISTORY, None])[0] == after


def test_two_names_exchanged_that_no_answer_shows_are_seen_by_the_check(
    served: Served, serving: Serve, port: int, tmp_path: Path
) -> None:
    order = list(range(1540))
    with serving(served.repository):
        shown = {tag.name for tag in fresh(port, k=700).tags}
    hidden = [i for i in range(0, 40, 3) if f"tag-{i}" not in shown]
    other = next(i for i in range(41, 1540) if f"tag-{i}" not in shown)
    assert hidden, "a tag of the history must be outside the answers"
    order[hidden[0]], order[other] = other, hidden[0]
    exchanged = relabelled(served.repository, tmp_path / "exchanged", order)
    with TagRecommender(f"127.0.0.1:{port}", deadline_s=30, vocabulary_check_s=0) as recommender:
        with serving(served.repository):
            recommender.recommend(PICTURE, HISTORY)
        with serving(exchanged):
            assert recommender.recommend(PICTURE, HISTORY) == fresh(port)
            assert recommender.vocabulary.index[f"tag-{hidden[0]}"] == other


@pytest.mark.parametrize("method", ["recommend", "recommend_for_users"])
def test_a_repository_with_another_number_of_tags(
    served: Served, recommender: TagRecommender, serving: Serve, port: int, tmp_path: Path, method: str
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "small.pt", tags=50, seed=1)
    vocabulary = tmp_path / "small.data" / "vocabulary.txt"
    repository = tmp_path / "small"
    init_repository(repository, vocabulary, like=REPOSITORY)
    release(checkpoint, repository)
    with serving(served.repository):
        recommender.recommend(PICTURE, HISTORY)
    with serving(repository):
        if method == "recommend":
            answer = recommender.recommend(PICTURE, HISTORY)
        else:
            (answer,) = recommender.recommend_for_users(PICTURE, [HISTORY])
        assert answer == fresh(port)
        assert len(recommender.vocabulary) == 50


def test_a_new_release_is_followed_without_another_vocabulary(
    served: Served, recommender: TagRecommender, serving: Serve, port: int, tmp_path: Path
) -> None:
    repository = tmp_path / "released"
    shutil.copytree(served.repository, repository)
    with serving(repository):
        assert recommender.recommend(PICTURE, HISTORY).model_version == "1"
        vocabulary = recommender.vocabulary
    release(save_tiny_checkpoint(tmp_path / "next.pt", seed=7), repository)
    with serving(repository):
        for answer in (recommender.recommend(PICTURE, HISTORY), *recommender.recommend_for_users(PICTURE, [HISTORY])):
            assert answer == fresh(port)
            assert answer.model_version == "2"
        assert recommender.vocabulary is vocabulary
