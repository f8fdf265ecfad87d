"""Another vocabulary behind the same address: no counts are ever sent in the order of the old one."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from altreco_client import PreparedImage, Recommendation, TagRecommender, contract

from measure.waiting import wait_until
from tests.kept import FEW_TAGS, Kept
from tests.servers import own_ports, serving

PICTURE = PreparedImage(np.random.default_rng(3).integers(0, 256, (224, 224, 3), dtype=np.uint8))
HISTORY = {f"tag-{i}": float(i % 7 + 1) for i in range(0, 40, 3)}
MODELS = (*(model.name for model in contract.COMPONENTS), contract.TAG_RECOMMENDER.name)


@dataclass
class Address:
    """A server whose repository is exchanged under it, which to a client is another server at the same address."""

    url: str
    models: Path
    serves: Path
    """What `models` is a copy of."""

    def become(self, repository: Path) -> None:
        """Serve all of this repository and nothing of the one before."""
        if repository == self.serves:
            return
        with triton.InferenceServerClient(self.url) as client:
            for model in reversed(MODELS):
                client.unload_model(model)
            # A model is no longer ready as soon as its unloading begins, so this waits for the end.
            wait_until(lambda: {model.reason for model in client.get_model_repository_index().models} == {"unloaded"})
            shutil.rmtree(self.models)
            shutil.copytree(repository, self.models)
            for model in MODELS:
                client.load_model(model)
        self.serves = repository

    def fresh(self, k: int = 5) -> Recommendation:
        """What a client answers that never saw another server."""
        return fresh(self.url, k)


@pytest.fixture(scope="module")
def address(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    models = shutil.copytree(kept.releases(1), tmp_path_factory.mktemp("address") / "models")
    with serving(models, model_control="explicit", extra_args=("--load-model=*",)) as server:
        yield Address(server.grpc_url, models, kept.releases(1))


@pytest.fixture
def recommender(address: Address) -> Iterator[TagRecommender]:
    """One that outlives the exchanges."""
    with TagRecommender(address.url, deadline_s=30) as recommender:
        yield recommender


def relabelled(repository: Path, copy: Path, order: list[int]) -> Path:
    """The same models under the same release number, whose classes have other names."""
    shutil.copytree(repository, copy)
    labels = copy / "classifier" / "tags.txt"
    tags = labels.read_text().splitlines()
    labels.write_text("".join(f"{tags[i]}\n" for i in order))
    return copy


def fresh(url: str, k: int = 5) -> Recommendation:
    with TagRecommender(url, deadline_s=30) as recommender:
        return recommender.recommend(PICTURE, HISTORY, k)


def test_a_repository_with_the_same_release_number_and_other_names(kept: Kept, tmp_path: Path) -> None:
    """In servers that come and go on one port."""
    reversed_names = relabelled(kept.releases(1), tmp_path / "other", list(range(1539, -1, -1)))
    port = next(own_ports())
    with TagRecommender(f"127.0.0.1:{port}", deadline_s=30) as recommender:
        with serving(kept.releases(1), grpc_port=port):
            recommender.recommend(PICTURE, HISTORY)
        with serving(reversed_names, grpc_port=port) as server:
            recommender.wait_ready(30)
            after = recommender.recommend(PICTURE, HISTORY)
            assert after == fresh(server.grpc_url)
            misaligned = {f"tag-{1539 - int(tag.removeprefix('tag-'))}": count for tag, count in HISTORY.items()}
            assert after.tags != recommender.recommend(PICTURE, misaligned).tags, "the order of the counts must matter"
            assert recommender.vocabulary.tags == tuple(f"tag-{i}" for i in range(1539, -1, -1))
            assert recommender.recommend_for_users(PICTURE, [HISTORY, None])[0] == after


def test_two_names_exchanged_that_no_answer_shows_are_seen_by_the_check(
    kept: Kept, address: Address, tmp_path: Path
) -> None:
    order = list(range(1540))
    address.become(kept.releases(1))
    shown = {tag.name for tag in address.fresh(k=700).tags}
    hidden = [i for i in range(0, 40, 3) if f"tag-{i}" not in shown]
    other = next(i for i in range(41, 1540) if f"tag-{i}" not in shown)
    assert hidden, "a tag of the history must be outside the answers"
    order[hidden[0]], order[other] = other, hidden[0]
    exchanged = relabelled(kept.releases(1), tmp_path / "exchanged", order)
    with TagRecommender(address.url, deadline_s=30, vocabulary_check_s=0) as recommender:
        recommender.recommend(PICTURE, HISTORY)
        address.become(exchanged)
        assert recommender.recommend(PICTURE, HISTORY) == address.fresh()
        assert recommender.vocabulary.index[f"tag-{hidden[0]}"] == other


def test_a_repository_with_another_number_of_tags(kept: Kept, address: Address, recommender: TagRecommender) -> None:
    """As it is noticed by each method first."""
    address.become(kept.releases(1))
    recommender.recommend(PICTURE, HISTORY)
    with TagRecommender(address.url, deadline_s=30) as of_users:
        of_users.recommend(PICTURE, HISTORY)
        address.become(kept.few_tags())
        assert recommender.recommend(PICTURE, HISTORY) == address.fresh()
        assert of_users.recommend_for_users(PICTURE, [HISTORY]) == (address.fresh(),)
        assert len(recommender.vocabulary) == len(of_users.vocabulary) == FEW_TAGS


def test_a_new_release_is_followed_without_another_vocabulary(
    kept: Kept, address: Address, recommender: TagRecommender
) -> None:
    address.become(kept.releases(1))
    assert recommender.recommend(PICTURE, HISTORY).model_version == "1"
    vocabulary = recommender.vocabulary
    address.become(kept.releases(2))
    for answer in (recommender.recommend(PICTURE, HISTORY), *recommender.recommend_for_users(PICTURE, [HISTORY])):
        assert answer == address.fresh()
        assert answer.model_version == "2"
    assert recommender.vocabulary is vocabulary
