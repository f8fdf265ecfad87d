import json
import secrets
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from altreco_client import TagRecommender
from numpy.typing import NDArray

from tests.end_to_end.conftest import Served

N = 1540
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(served.server.grpc_url) as client:
        yield client


def examples(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures, and sparse raw counts; every third user has no history."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)
    counts = (rng.geometric(0.3, (count, N)) * (rng.random((count, N)) < 0.1)).astype(np.float32)
    counts[::3] = 0
    return image, counts


def infer(client: triton.InferenceServerClient, image: NDArray, counts: NDArray) -> NDArray[np.float32]:
    inputs = [
        triton.InferInput("IMAGE", image.shape, "UINT8"),
        triton.InferInput("USER_TAG_COUNTS", counts.shape, "FP32"),
    ]
    for entry, array in zip(inputs, (image, counts), strict=True):
        entry.set_data_from_numpy(array)
    return client.infer("tag_recommender", inputs, client_timeout=30).as_numpy("TAGS")


def assert_equals_pytorch(served: Served, image: NDArray, counts: NDArray, answer: NDArray) -> None:
    with torch.inference_mode():
        expected = served.model.recommend(torch.from_numpy(image), torch.from_numpy(counts)).numpy()
    difference = np.abs(answer - expected)
    assert difference.max() < TOLERANCE, f"max {difference.max():.2e}, mean {difference.mean():.2e}"
    assert expected.std() > 0.1, "the model's scores must differ, or the comparison says nothing"


@pytest.mark.parametrize("seed", [0, 1])
def test_single_request_equals_pytorch_with_and_without_history(
    served: Served, client: triton.InferenceServerClient, seed: int
) -> None:
    image, counts = examples(2, seed)  # the first has no history
    for i in range(2):
        one = slice(i, i + 1)
        assert_equals_pytorch(served, image[one], counts[one], infer(client, image[one], counts[one]))


@pytest.mark.parametrize("size", [2, 7, 32])
def test_batched_request_equals_pytorch(served: Served, client: triton.InferenceServerClient, size: int) -> None:
    image, counts = examples(size, size)
    assert_equals_pytorch(served, image, counts, infer(client, image, counts))


def test_concurrent_requests_equal_pytorch_and_are_batched(
    served: Served, client: triton.InferenceServerClient
) -> None:
    image, counts = examples(48, 99)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: infer(client, image[i : i + 1], counts[i : i + 1]), range(48)))
    assert_equals_pytorch(served, image, counts, np.concatenate(answers))
    for model in ("visual_encoder", "classifier"):
        statistics = client.get_inference_statistics(model, as_json=True)["model_stats"][0]
        sizes = [int(entry["batch_size"]) for entry in statistics["batch_stats"]]
        assert max(sizes) > 1, f"{model} ran batches of {sizes} only"


def test_the_same_picture_for_another_user_comes_from_the_cache(
    served: Served, client: triton.InferenceServerClient
) -> None:
    image, counts = examples(3, secrets.randbits(32))  # a picture that no other test has asked this server for
    same = image[:1].repeat(3, 0)
    before = cache_hits(served)
    answers = [infer(client, same[i : i + 1], counts[i : i + 1]) for i in range(3)]
    assert cache_hits(served) == before + 2
    assert_equals_pytorch(served, same, counts, np.concatenate(answers))


def cache_hits(served: Served) -> int:
    with urllib.request.urlopen(served.server.metrics_url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    name = 'nv_cache_num_hits_per_model{model="visual_encoder",version="1"} '
    return next(int(float(line.removeprefix(name))) for line in lines if line.startswith(name))


def test_client_ranks_as_the_model_does(served: Served, recommender: TagRecommender) -> None:
    image, row = examples(1, 5)
    counts = {"tag-4": 1.0, "tag-8": 3.0, "tag-15": 40.0}
    row[0, [4, 8, 15]] = list(counts.values())
    # A 256 x 256 picture is cropped, not scaled: the model sees exactly the middle.
    picture = np.zeros((256, 256, 3), dtype=np.uint8)
    picture[16:240, 16:240] = image[0]
    answer = recommender.recommend(picture, counts, k=10)
    with torch.inference_mode():
        scores = served.model.recommend(torch.from_numpy(image), torch.from_numpy(row)).numpy()[0]
    assert [tag.score for tag in answer.tags] == pytest.approx(np.sort(scores)[::-1][:10], abs=TOLERANCE)
    for tag in answer.tags:
        assert tag.score == pytest.approx(scores[int(tag.name.removeprefix("tag-"))], abs=TOLERANCE)
    assert answer.model_version == "1"


def test_vocabulary_comes_from_the_server_in_the_models_order(recommender: TagRecommender) -> None:
    assert recommender.vocabulary.tags == tuple(f"tag-{i}" for i in range(N))


def test_every_configured_model_is_served_as_the_contract_says(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("visual_encoder", as_json=True)["config"]
    assert config["response_cache"]["enable"]
    assert config["dynamic_batching"]["preferred_batch_size"] == [4]
    ensemble = client.get_model_config("tag_recommender", as_json=True)["config"]
    versions = {step["model_version"] for step in ensemble["ensemble_scheduling"]["step"]}
    assert versions == {"1"}, json.dumps(ensemble)
