"""Is the server up, what does it serve, and where does the time of a request go? What `altreco doctor` asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import contract
from ..call.context import Context, ask, infer, internal_context
from ..call.flow import Flow
from ..call.wire import inputs, ranked, vocabulary_size
from ..errors import AltrecoError, Unavailable
from ..images import ImageLike, PreparedImage, prepare
from ..sync import TagRecommender
from ..vector import history_vector

T = TypeVar("T")
REPEATS = 10
"""Of what is timed; the median counts."""

HISTORY_TAGS = 20


@dataclass(frozen=True)
class Check:
    """`ok` or not, in words, and how long it took, ms (None: not timed)."""

    name: str
    ok: bool
    detail: str
    ms: float | None = None


def examine(recommender: TagRecommender, image: ImageLike | None = None) -> Iterator[Check]:
    """One check after the other; the first that fails is the last. `image` is what is sent; None: noise."""
    state: dict[str, str] = {}
    steps: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("server", lambda: _server(recommender, state)),
        ("vocabulary", lambda: _vocabulary(recommender)),
        ("latency", lambda: _latency(recommender, image, state)),
    ]
    for name, step in steps:
        try:
            yield from step()
        except AltrecoError as error:
            yield Check(name, False, str(error))
            return


def _server(recommender: TagRecommender, state: dict[str, str]) -> Iterator[Check]:
    core = recommender._core
    metadata, ms = _timed(lambda: recommender._run(ask(internal_context(core), "get_server_metadata")))
    yield Check("server", True, f"{metadata.name} {metadata.version} at {core.url}", ms)
    if not recommender.ready():
        raise Unavailable(f"model {core.model_name!r} is not loaded; look at the server's log")
    model, ms = _timed(
        lambda: recommender._run(ask(internal_context(core), "get_model_metadata", model_name=core.model_name))
    )
    vocabulary_size(core.model_name, model)
    state["release"] = model.versions[-1]
    yield Check("release", True, f"{core.model_name} {state['release']} speaks this client's contract", ms)


def _vocabulary(recommender: TagRecommender) -> Iterator[Check]:
    vocabulary, ms = _timed(lambda: recommender.vocabulary)
    yield Check("vocabulary", True, f"{len(vocabulary)} tags, from {vocabulary.tags[0]!r}", ms)


def _latency(recommender: TagRecommender, image: ImageLike | None, state: dict[str, str]) -> Iterator[Check]:
    """The parts, each by itself, then the whole: new pictures, and one that is asked for again."""
    vocabulary = recommender.vocabulary
    history = dict.fromkeys(vocabulary.tags[:HISTORY_TAGS], 1.0)
    if image is not None:
        given, ms = _timed(lambda: prepare(image, max_pixels=recommender._core.max_pixels))
        yield Check("prepare", True, "decode and scale the picture, here", ms)
    vector, ms = _repeated(lambda: history_vector(history, vocabulary))
    yield Check("vector", True, f"the history of {HISTORY_TAGS} tags, here", ms)
    for name, call in _parts(recommender, vector, state["release"]):
        _, ms = _repeated(call)
        yield Check(name, True, "this model alone, one row", ms)
    _, ms = _repeated(lambda: recommender.recommend(_noise(), history))
    yield Check("new picture", True, "the whole call", ms)
    picture = _noise() if image is None else given
    recommender.recommend(picture, history)
    _, ms = _repeated(lambda: recommender.recommend(picture, history))
    yield Check("repeat picture", True, "the whole call, answered from the cache if the server has one", ms)


def _parts(
    recommender: TagRecommender, vector: NDArray[np.float32], release: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    encoding = np.zeros((1, *contract.ENCODING_SHAPE), dtype=np.float32)
    preference = np.zeros((1, contract.PREFERENCE_DIM), dtype=np.float32)

    def run(flow: Callable[[Context], Flow[T]]) -> T:
        return recommender._run(flow(internal_context(recommender._core)))

    yield (
        contract.VISUAL_ENCODER.name,
        lambda: run(
            lambda context: infer(
                context,
                contract.VISUAL_ENCODER.name,
                inputs((contract.IMAGE, _noise().tensor[np.newaxis])),
                version=release,
            )
        ),
    )
    yield (
        contract.PREFERENCE_ENCODER.name,
        lambda: run(
            lambda context: infer(
                context,
                contract.PREFERENCE_ENCODER.name,
                inputs((contract.USER_HISTORY, vector[np.newaxis])),
                version=release,
            )
        ),
    )
    yield (
        contract.CLASSIFIER.name,
        lambda: run(
            lambda context: infer(
                context,
                contract.CLASSIFIER.name,
                inputs((contract.VISUAL_ENCODING, encoding), (contract.USER_PREFERENCE, preference)),
                outputs=ranked(5),
                version=release,
            )
        ),
    )


def _noise() -> PreparedImage:
    """A picture that no cache has."""
    return PreparedImage(np.random.default_rng().integers(0, 256, contract.IMAGE.dims, dtype=np.uint8))


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - started) * 1000


def _repeated(call: Callable[[], T]) -> tuple[T, float]:
    results = [_timed(call) for _ in range(REPEATS)]
    return results[-1][0], median(ms for _, ms in results)
