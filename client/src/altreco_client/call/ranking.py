"""Ranking by the server. An answer is used only if its counts were in the order of the server's vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from functools import partial

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from .. import contract
from ..errors import ContractMismatch, InvalidHistory, InvalidRequest, ServerRejected
from ..results import Recommendation, Tag
from ..vector import fill_tag_counts, refuses_unknown, unknown_tag
from ..vocabulary import Vocabulary
from .context import Context, ask, infer, known_vocabulary, learn
from .flow import Compute, Flow, compute
from .wire import Answer, RankedClass, inputs, ranked, read_answer, read_tensor, served_release

History = Mapping[str, float] | None
Row = tuple[RankedClass, ...]
Histories = Sequence[History]
ATTEMPTS = 5
"""The first finds that the vocabulary changed, the second learns the new one, the third uses it. A batch may need two
more while replicas of two releases take turns, because it learns by a request of its own."""

MAY_BE_STALE = ("INVALID_ARGUMENT", "NOT_FOUND")
"""The status of a refusal that may come from another vocabulary, whose counts have another length, or from a release
that was unloaded."""


def rank_pairs(context: Context, images: NDArray[np.uint8], histories: Histories) -> Flow[list[Recommendation]]:
    """Rank for pairs of an image [224, 224, 3] and a history, with the ensemble."""
    model = context.settings.model_name

    def send(counts: NDArray[np.float32], k: int) -> Flow[Answer]:
        tensors = inputs((contract.IMAGE, images), (contract.USER_TAG_COUNTS, counts))
        result = yield from infer(context, model, tensors, outputs=ranked(k))
        return (yield from _read(result, counts, k))

    return _aligned(context, histories, send)


def rank_users(context: Context, image: NDArray[np.uint8], histories: Histories) -> Flow[list[Recommendation]]:
    """Rank one image [1, 224, 224, 3] for many users.

    The image is encoded once: the ensemble's models are called one by one, all in the release that the ensemble is
    pinned to.
    """

    def send(counts: NDArray[np.float32], k: int) -> Flow[Answer]:
        release = yield from _release(context)
        encoding = yield from _encode(context, image, counts.shape[1], release)
        rows: list[Row] = []
        for start in range(0, len(counts), context.settings.max_batch_size):
            batch = counts[start : start + context.settings.max_batch_size]
            rows += yield from _classify(context, encoding.repeat(len(batch), 0), batch, k, release)
        return Answer(tuple(rows), release)

    return _aligned(context, histories, send)


def rank_and_encode(
    context: Context, images: NDArray[np.uint8], histories: Histories
) -> Flow[tuple[list[Recommendation], NDArray[np.float32]]]:
    """Do what `rank_pairs` does, with the ensemble's models one by one, and return the visual encodings as well.

    They are float32 [batch, 64, 7, 7]; a backfill keeps them.
    """
    encodings = np.empty(0, dtype=np.float32)

    def send(counts: NDArray[np.float32], k: int) -> Flow[Answer]:
        nonlocal encodings
        release = yield from _release(context)
        encodings = yield from _encode(context, images, counts.shape[1], release)
        return Answer(tuple((yield from _classify(context, encodings, counts, k, release))), release)

    answers = yield from _aligned(context, histories, send)
    return answers, encodings


def rank_encoded(context: Context, encodings: NDArray[np.float32], histories: Histories) -> Flow[list[Recommendation]]:
    """Rank for pairs of a visual encoding [64, 7, 7] and a history."""

    def send(counts: NDArray[np.float32], k: int) -> Flow[Answer]:
        release = yield from _release(context)
        return Answer(tuple((yield from _classify(context, encodings, counts, k, release))), release)

    return _aligned(context, histories, send)


def _release(context: Context) -> Flow[str]:
    """The release that the ensemble is pinned to."""
    metadata = yield from ask(context, "get_model_metadata", model_name=context.settings.model_name)
    return served_release(context.settings.model_name, metadata)


def _encode(context: Context, images: NDArray[np.uint8], n: int, release: str) -> Flow[NDArray[np.float32]]:
    """The visual encodings [batch, 64, 7, 7] of images [batch, 224, 224, 3]."""
    result = yield from infer(context, contract.VISUAL_ENCODER.name, inputs((contract.IMAGE, images)), version=release)
    return read_tensor(result, contract.VISUAL_ENCODING, len(images), n)


def _classify(
    context: Context, encodings: NDArray[np.float32], counts: NDArray[np.float32], k: int, release: str
) -> Flow[list[Row]]:
    """Rank encoded images [batch, 64, 7, 7] for users, one each, with their counts [batch, N]."""
    history = inputs((contract.USER_TAG_COUNTS, counts))
    result = yield from infer(context, contract.PREFERENCE_ENCODER.name, history, version=release)
    tensors = inputs(
        (contract.VISUAL_ENCODING, encodings),
        *((tensor, read_tensor(result, tensor, *counts.shape)) for tensor in contract.PREFERENCE_ENCODER.outputs),
    )
    result = yield from infer(context, contract.CLASSIFIER.name, tensors, outputs=ranked(k), version=release)
    return list((yield from _read(result, counts, k)).rows)


def _read(result: triton.InferResult, counts: NDArray[np.float32], k: int) -> Flow[Answer]:
    rows, n = counts.shape
    return compute(rows * k, lambda: read_answer(result, rows, k, n))


def _aligned(
    context: Context, histories: Histories, send: Callable[[NDArray[np.float32], int], Flow[Answer]]
) -> Flow[list[Recommendation]]:
    """Call `send` with the histories' counts [batch, N] and k, again if the vocabulary has changed."""
    cache, k, single = context.client.vocabulary, context.request.k, len(histories) == 1
    vocabulary = yield from known_vocabulary(context)
    check, rejected = cache.is_due(), False
    for _ in range(ATTEMPTS):
        if check and not single:  # all labels of every row would be too many
            vocabulary = yield from learn(context)
        if k > len(vocabulary):
            raise InvalidRequest(f"k is {k}: expected 1 to {len(vocabulary)}, the size of the vocabulary")
        counts, unknown = yield from _counts(context, histories, vocabulary)
        all_labels = check and single
        try:
            answer = yield from send(counts, len(vocabulary) if all_labels else k)
        except ServerRejected as error:
            if rejected or error.status not in MAY_BE_STALE:
                raise
            vocabulary = yield from learn(context)
            rejected, check = True, False
            continue
        if all_labels:
            served = cache.learn(answer)
            if served.tags == vocabulary.tags:
                return _recommendations(context, answer, unknown)
            vocabulary = served
        elif cache.confirms(answer, vocabulary):
            return _recommendations(context, answer, unknown)
        check = True
    raise ContractMismatch(
        f"the vocabulary of {context.settings.url} changed {ATTEMPTS} times in a row: do all replicas serve the same "
        "model repository?"
    )


def _counts(
    context: Context, histories: Histories, vocabulary: Vocabulary
) -> Flow[tuple[NDArray[np.float32], list[tuple[str, ...]]]]:
    """The counts of each history [batch, N], and its tags outside the vocabulary."""
    counts, how = np.zeros((len(histories), len(vocabulary)), dtype=np.float32), context.request.unknown_tags

    def fill() -> list[tuple[str, ...]]:
        unknown = []
        for place, history in enumerate(histories):
            with placed(place):
                unknown.append(fill_tag_counts(counts[place], history, vocabulary))
        return unknown

    unknown = yield from compute(sum(len(history) for history in histories if isinstance(history, Sized)), fill)
    for place, (history, tags) in enumerate(zip(histories, unknown, strict=True)):
        if tags and refuses_unknown(history, how):
            with placed(place):
                raise (yield Compute(partial(unknown_tag, tags, vocabulary)))
    return counts, unknown


@contextmanager
def placed(first: int) -> Iterator[None]:
    """Add `first` to the place of a history that is refused inside."""
    try:
        yield
    except InvalidHistory as error:
        error.index = first + (error.index or 0)
        raise


def _recommendations(context: Context, answer: Answer, unknown: list[tuple[str, ...]]) -> list[Recommendation]:
    return [
        Recommendation(
            tags=tuple([Tag(label, score) for _, score, label in row[: context.request.k]]),
            model_version=answer.version,
            request_id=context.request.id,
            unknown_tags=missing,
        )
        for row, missing in zip(answer.rows, unknown, strict=True)
    ]
