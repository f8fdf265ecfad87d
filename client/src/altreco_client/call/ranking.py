"""Ranking by the server. An answer is used only if its counts were in the order of the server's vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .. import contract
from ..errors import ContractMismatch, InvalidRequest, ServerRejected
from ..results import Recommendation, Tag
from ..vector import fill_tag_counts
from ..vocabulary import Vocabulary
from .context import Context, ask, infer, known_vocabulary, learn
from .flow import Flow
from .wire import Answer, RankedClass, inputs, ranked, read_answer, read_tensor

History = Mapping[str, float] | None
Row = tuple[RankedClass, ...]
Histories = Sequence[History]
ATTEMPTS = 3
"""The first finds that the vocabulary changed, the second learns the new one, the third uses it."""


def rank_pairs(context: Context, images: NDArray[np.uint8], histories: Histories) -> Flow[list[Recommendation]]:
    """Rank for pairs of an image [224, 224, 3] and a history, with the ensemble."""
    model = context.settings.model_name

    def send(counts: NDArray[np.float32], k: int) -> Flow[Answer]:
        tensors = inputs((contract.IMAGE, images), (contract.USER_TAG_COUNTS, counts))
        result = yield from infer(context, model, tensors, outputs=ranked(k))
        return read_answer(result, len(counts))

    return _aligned(context, histories, send)


def rank_users(context: Context, image: NDArray[np.uint8], histories: Histories) -> Flow[list[Recommendation]]:
    """Rank one image [1, 224, 224, 3] for many users.

    The image is encoded once: the ensemble's models are called one by one, all in the release that the ensemble is
    pinned to.
    """

    def send(counts: NDArray[np.float32], k: int) -> Flow[Answer]:
        metadata = yield from ask(context, "get_model_metadata", model_name=context.settings.model_name)
        release = metadata.versions[-1]
        result = yield from infer(
            context, contract.VISUAL_ENCODER.name, inputs((contract.IMAGE, image)), version=release
        )
        encoding = read_tensor(result, contract.VISUAL_ENCODING)
        rows: list[Row] = []
        for start in range(0, len(counts), context.settings.max_batch_size):
            batch = counts[start : start + context.settings.max_batch_size]
            rows += yield from _classify(context, encoding, batch, k, release)
        return Answer(tuple(rows), release)

    return _aligned(context, histories, send)


def _classify(
    context: Context, encoding: NDArray[np.float32], counts: NDArray[np.float32], k: int, release: str
) -> Flow[list[Row]]:
    """Rank one encoded image [1, 64, 7, 7] for a batch of users, with their counts [batch, N]."""
    history = inputs((contract.USER_TAG_COUNTS, counts))
    result = yield from infer(context, contract.PREFERENCE_ENCODER.name, history, version=release)
    tensors = inputs(
        (contract.VISUAL_ENCODING, encoding.repeat(len(counts), 0)),
        *((tensor, read_tensor(result, tensor)) for tensor in contract.PREFERENCE_ENCODER.outputs),
    )
    result = yield from infer(context, contract.CLASSIFIER.name, tensors, outputs=ranked(k), version=release)
    return list(read_answer(result, len(counts)).rows)


def _aligned(
    context: Context, histories: Histories, send: Callable[[NDArray[np.float32], int], Flow[Answer]]
) -> Flow[list[Recommendation]]:
    """Call `send` with the histories' counts [batch, N] and k, again if the vocabulary has changed."""
    cache, k = context.client.vocabulary, context.request.k
    vocabulary = yield from known_vocabulary(context)
    all_labels, rejected = cache.is_due(), False
    for _ in range(ATTEMPTS):
        if k > len(vocabulary):
            raise InvalidRequest(f"k is {k}: expected 1 to {len(vocabulary)}, the size of the vocabulary")
        counts, unknown = _counts(context, histories, vocabulary)
        try:
            answer = yield from send(counts, len(vocabulary) if all_labels else k)
        except ServerRejected:
            # The server may have another N by now, or may have unloaded the release.
            if rejected:
                raise
            rejected, vocabulary = True, (yield from learn(context))
            continue
        if all_labels:
            served = cache.learn(answer)
            if served.tags == vocabulary.tags:
                return _recommendations(context, answer, unknown)
            vocabulary = served
        elif cache.confirms(answer, vocabulary):
            return _recommendations(context, answer, unknown)
        all_labels = True
    raise ContractMismatch(
        f"the vocabulary of {context.settings.url} changed {ATTEMPTS} times in a row: do all replicas serve the same "
        "model repository?"
    )


def _counts(
    context: Context, histories: Histories, vocabulary: Vocabulary
) -> tuple[NDArray[np.float32], list[tuple[str, ...]]]:
    counts, how = np.zeros((len(histories), len(vocabulary)), dtype=np.float32), context.request.unknown_tags
    return counts, [fill_tag_counts(counts[i], one, vocabulary, how) for i, one in enumerate(histories)]


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
