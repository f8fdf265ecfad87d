"""Checks that the server is up, what it serves, and where a request spends its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from .. import contract
from ..call.context import ask, infer, internal_context
from ..call.wire import inputs, ranked, served_release, vocabulary_size
from ..errors import AltrecoError, Unavailable
from ..images import ImageLike, PreparedImage, prepare
from ..sync import TagRecommender
from ..text import printable
from ..vector import tag_counts
from .wording import in_options

T = TypeVar("T")
REPEATS = 10
"""Calls for each timing; the median is shown."""

HISTORY_TAGS = 20


@dataclass(frozen=True)
class Check:
    """The result of one check; `ms` is its duration, None if it was not timed."""

    name: str
    ok: bool
    detail: str
    ms: float | None = None


def examine(recommender: TagRecommender, image: ImageLike | None = None) -> Iterator[Check]:
    """Run the checks one after the other and stop at the first failure. The image is sent; None: noise."""
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
            yield Check(name, False, in_options(error))
            return


def _server(recommender: TagRecommender, state: dict[str, str]) -> Iterator[Check]:
    settings = recommender._state.settings
    metadata, ms = _timed(lambda: _ask(recommender, "get_server_metadata"))
    version = printable(f"{metadata.name[:40]} {metadata.version[:40]}")
    yield Check("server", True, f"{version} at {settings.url}", ms)
    if not recommender.ready():
        raise Unavailable(f"model {settings.model_name!r} is not loaded; look at the server's log")
    model, ms = _timed(lambda: _ask(recommender, "get_model_metadata", model_name=settings.model_name))
    vocabulary_size(settings.model_name, model, settings.channel.max_message_bytes)
    state["release"] = served_release(settings.model_name, model)
    yield Check(
        "release",
        True,
        f"{settings.model_name} {state['release']} speaks contract {contract.VERSION}, as this client does",
        ms,
    )


def _ask(recommender: TagRecommender, method: str, **arguments: Any) -> Any:
    return recommender._run(ask(internal_context(recommender._state), method, **arguments))


def _vocabulary(recommender: TagRecommender) -> Iterator[Check]:
    vocabulary, ms = _timed(lambda: recommender.vocabulary)
    yield Check("vocabulary", True, f"{len(vocabulary)} tags; the first is {vocabulary.tags[0]!r}", ms)


def _latency(recommender: TagRecommender, image: ImageLike | None, state: dict[str, str]) -> Iterator[Check]:
    """Time each part alone, then the whole call with a new and with a repeated picture."""
    vocabulary = recommender.vocabulary
    history = dict.fromkeys(vocabulary.tags[:HISTORY_TAGS], 1.0)
    if image is not None:
        given, ms = _timed(lambda: prepare(image, max_pixels=recommender._state.settings.max_pixels))
        yield Check("prepare", True, "decoding and scaling the picture, in this process", ms)
    counts, ms = _repeated(lambda: tag_counts(history, vocabulary))
    yield Check("counts", True, f"the counts of a history of {HISTORY_TAGS} tags, in this process", ms)
    for model, call in _parts(recommender, counts, state["release"]):
        _, ms = _repeated(call)
        yield Check(model.name, True, "this model alone, one row", ms)
    _, ms = _repeated(lambda: recommender.recommend(_noise(), history))
    yield Check("new picture", True, "the whole call", ms)
    picture = _noise() if image is None else given
    recommender.recommend(picture, history)
    _, ms = _repeated(lambda: recommender.recommend(picture, history))
    yield Check("repeat picture", True, "the whole call, answered from the cache if the server has one", ms)


def _parts(
    recommender: TagRecommender, counts: NDArray[np.float32], release: str
) -> Iterator[tuple[contract.Model, Callable[[], object]]]:
    """Each component with a call that sends it one row."""
    encoding = np.zeros((1, *contract.ENCODING_SHAPE), dtype=np.float32)
    preference = np.zeros((1, contract.PREFERENCE_DIM), dtype=np.float32)

    def send(model: contract.Model, tensors: list[triton.InferInput], k: int | None = None) -> object:
        context, outputs = internal_context(recommender._state), None if k is None else ranked(k)
        return recommender._run(infer(context, model.name, tensors, outputs=outputs, version=release))

    yield (
        contract.VISUAL_ENCODER,
        lambda: send(contract.VISUAL_ENCODER, inputs((contract.IMAGE, _noise().tensor[np.newaxis]))),
    )
    history = inputs((contract.USER_TAG_COUNTS, counts[np.newaxis]))
    yield contract.PREFERENCE_ENCODER, lambda: send(contract.PREFERENCE_ENCODER, history)
    joined = inputs(
        (contract.VISUAL_ENCODING, encoding),
        (contract.USER_PREFERENCE, preference),
        (contract.USER_PRIOR, np.zeros_like(counts[np.newaxis])),
    )
    yield contract.CLASSIFIER, lambda: send(contract.CLASSIFIER, joined, 5)


def _noise() -> PreparedImage:
    """A picture that is in no cache."""
    return PreparedImage(np.random.default_rng().integers(0, 256, contract.IMAGE.dims, dtype=np.uint8))


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - started) * 1000


def _repeated(call: Callable[[], T]) -> tuple[T, float]:
    results = [_timed(call) for _ in range(REPEATS)]
    return results[-1][0], median(ms for _, ms in results)
