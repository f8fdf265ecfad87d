"""Whatever is sent, the answer is an error that says what was expected, and the server goes on serving."""

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton
from altreco_client import (
    ContractMismatch,
    InvalidHistory,
    InvalidImage,
    InvalidRequest,
    ServerRejected,
    TagRecommender,
    UnknownTag,
    contract,
)
from altreco_client.call.wire import inputs as wire_inputs
from tritonclient.utils import InferenceServerException

from tests.end_to_end.conftest import Served

PICTURE = np.full((300, 400, 3), 90, dtype=np.uint8)


@pytest.fixture(autouse=True)
def _goes_on_serving(recommender: TagRecommender) -> Iterator[None]:
    before = recommender.recommend(PICTURE, {"tag-1": 1})
    yield
    assert recommender.recommend(PICTURE, {"tag-1": 1}) == before


@pytest.mark.parametrize(
    ("image", "history", "k", "error", "message"),
    [
        (b"no image", {}, 5, InvalidImage, "cannot read an image"),
        (np.zeros((2, 2), dtype=np.float32), {}, 5, InvalidImage, "expected uint8"),
        (PICTURE, {"tag-1": -1}, 5, InvalidHistory, "expected a finite number of zero or more"),
        (PICTURE, {"tag-1": float("nan")}, 5, InvalidHistory, "count of 'tag-1' is nan"),
        (PICTURE, {"tag-1": 1e39}, 5, InvalidHistory, "at most 3.4e38"),
        (PICTURE, {"sea": 1}, 5, UnknownTag, "not among the server's 1540 tags: 'sea'"),
        (PICTURE, {}, 0, InvalidRequest, "expected a whole number of 1 or more"),
        (PICTURE, {}, 1541, InvalidRequest, "expected 1 to 1540"),
    ],
)
def test_client_refuses_before_sending(
    recommender: TagRecommender, image: object, history: dict, k: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        recommender.recommend(image, history, k)  # type: ignore[arg-type]


def test_unknown_tags_can_be_ignored(recommender: TagRecommender) -> None:
    known = recommender.recommend(PICTURE, {"tag-1": 1})
    ignoring = recommender.recommend(PICTURE, {"tag-1": 1, "sea": 5}, unknown_tags="ignore")
    assert ignoring.tags == known.tags
    assert ignoring.unknown_tags == ("sea",)


@pytest.mark.parametrize(
    ("image", "counts", "message"),
    [
        (
            np.zeros((1, 200, 224, 3), np.uint8),
            np.zeros((1, 1540), np.float32),
            r"Expected \[-1,224,224,3\], got \[1,200,224,3\]",
        ),
        (
            np.zeros((1, 224, 224, 3), np.uint8),
            np.zeros((1, 1000), np.float32),
            r"Expected \[-1,1540\], got \[1,1000\]",
        ),
        (np.zeros((1, 224, 224, 3), np.float32), np.zeros((1, 1540), np.float32), "UINT8"),
        (np.zeros((33, 224, 224, 3), np.uint8), np.zeros((33, 1540), np.float32), "batch-size must be <= 32"),
        (np.zeros((2, 224, 224, 3), np.uint8), np.zeros((1, 1540), np.float32), "batch"),
    ],
)
def test_triton_refuses_wrong_tensors(served: Served, image: np.ndarray, counts: np.ndarray, message: str) -> None:
    dtype = {"uint8": "UINT8", "float32": "FP32"}[str(image.dtype)]
    inputs = [
        triton.InferInput("IMAGE", image.shape, dtype),
        triton.InferInput("USER_TAG_COUNTS", counts.shape, "FP32"),
    ]
    inputs[0].set_data_from_numpy(image)
    inputs[1].set_data_from_numpy(counts)
    with (
        triton.InferenceServerClient(served.server.grpc_url) as client,
        pytest.raises(InferenceServerException, match=message),
    ):
        client.infer("tag_recommender", inputs, client_timeout=30)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, 3e38])
def test_counts_that_no_client_sends_change_no_other_request_of_the_batch(served: Served, bad: float) -> None:
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (3, 224, 224, 3), np.uint8)
    counts = rng.poisson(0.1, (3, 1540)).astype(np.float32)
    with triton.InferenceServerClient(served.server.grpc_url) as client:

        def ask() -> np.ndarray:
            tensors = wire_inputs((contract.IMAGE, images), (contract.USER_TAG_COUNTS, counts))
            return client.infer("tag_recommender", tensors, client_timeout=30).as_numpy("TAGS")

        expected = ask()
        counts[1, :100] = bad
        answer = ask()
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-6)
    assert np.abs(answer[1] - expected[1]).max() > 1e-3


def test_a_model_that_is_not_there(served: Served) -> None:
    with TagRecommender(served.server.grpc_url, model_name="nothing") as recommender:
        assert not recommender.ready()
        with pytest.raises(ServerRejected, match="nothing"):
            recommender.recommend(PICTURE)


def test_a_model_that_does_not_speak_the_contract(served: Served) -> None:
    with (
        TagRecommender(served.server.grpc_url, model_name="preference_encoder") as recommender,
        pytest.raises(ContractMismatch, match="which speaks contract 2, expects IMAGE UINT8"),
    ):
        recommender.recommend(PICTURE)
