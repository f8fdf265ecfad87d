"""The three methods of both clients, as flows: prepare the images, rank in batches, report the call, fall back.

Two more are for a backfill, which keeps visual encodings.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..checks import check_keywords, checked_count, checked_mapping
from ..errors import (
    ContractMismatch,
    DeadlineExceeded,
    InvalidHistory,
    InvalidImage,
    InvalidRequest,
    Overloaded,
    ServerError,
    ServerFailed,
    ServerRejected,
    Unavailable,
)
from ..history import most_frequent
from ..images import ImageLike, PreparedImage, prepare
from ..results import Recommendation, Tag
from ..settings import Options, Request, checked_request
from ..text import message
from .context import NOT_FOUND, ClientState, Context, candidate_takes, wait_for_room
from .flow import Compute, Deadline, Flow
from .observe import observed
from .ranking import Histories, History, placed, rank_and_encode, rank_encoded, rank_pairs, rank_users

T = TypeVar("T")
LOGGER = logging.getLogger("altreco_client")
Images = Sequence["ImageLike | PreparedImage"]
Rank = Callable[[Context, NDArray[np.uint8], Histories], Flow[list[Recommendation]]]


def recommend(
    client: ClientState, image: ImageLike | PreparedImage, history: History, k: int, options: Options
) -> Flow[Recommendation]:
    """Rank the tags for one image and one history."""
    answers = yield from _call("recommend", client, [image], [history], k, options, rank_pairs)
    return answers[0]


def recommend_batch(
    client: ClientState, images: Images, histories: Sequence[History] | None, k: int, options: Options
) -> Flow[tuple[Recommendation, ...]]:
    """Rank the tags for images and their histories, one each; None: no image has a history."""
    images = _sequence("images", images)
    if any(isinstance(image, tuple) for image in images):
        raise InvalidRequest(
            "images has tuples: pass two lists, the images and their histories, as in recommend_batch([a, b], [x, y])"
        )
    histories = [None] * len(images) if histories is None else _sequence("histories", histories)
    if len(images) != len(histories):
        raise InvalidRequest(f"{len(images)} images and {len(histories)} histories: expected one history per image")
    return _call("recommend_batch", client, images, histories, k, options, _rank_in_batches)


def recommend_for_users(
    client: ClientState, image: ImageLike | PreparedImage, histories: Sequence[History], k: int, options: Options
) -> Flow[tuple[Recommendation, ...]]:
    """Rank the tags for one image and each of the histories."""
    return _call("recommend_for_users", client, [image], _sequence("histories", histories), k, options, rank_users)


def recommend_and_encode(
    client: ClientState, images: Images, histories: Sequence[History], k: int
) -> Flow[tuple[tuple[Recommendation, ...], NDArray[np.float32]]]:
    """Rank the tags for images and their histories, and return the visual encodings, float32 [batch, 64, 7, 7].

    A batch has at most `max_batch_size` images.
    """
    kept: list[NDArray[np.float32]] = []

    def rank(context: Context, tensors: NDArray[np.uint8], histories: Histories) -> Flow[list[Recommendation]]:
        answers, encodings = yield from rank_and_encode(context, tensors, histories)
        kept.append(encodings)
        return answers

    answers = yield from _call("recommend_and_encode", client, images, histories, k, {}, rank)
    return answers, kept[-1]


def recommend_encoded(
    client: ClientState, encodings: NDArray[np.float32], histories: Sequence[History], k: int
) -> Flow[tuple[Recommendation, ...]]:
    """Rank the tags for visual encodings [batch, 64, 7, 7] and their histories, at most `max_batch_size`."""

    def rank(context: Context, _: NDArray[np.uint8], histories: Histories) -> Flow[list[Recommendation]]:
        return rank_encoded(context, encodings, histories)

    return _call("recommend_encoded", client, (), histories, k, {}, rank)


def _call(
    method: str, client: ClientState, images: Images, histories: Histories, k: int, options: Options, rank: Rank
) -> Flow[tuple[Recommendation, ...]]:
    settings = client.settings
    check_keywords(method, options, Options.__annotations__)
    request = checked_request(k, settings.deadline_s, **options)
    sizes = {"pictures": len(images), "users": len(histories)}
    with observed(client.telemetry, settings.on_call, method=method, request_id=request.id, **sizes) as observation:
        deadline = Deadline(request.deadline_s, settings.url)
        headers = {**client.headers, **request.headers, **observation.headers}
        context = Context(client, request, deadline, headers, observation)
        try:
            yield from wait_for_room(context)
            tensors = yield from _tensors(images, context)
            answers = (yield from _rank(context, tensors, histories, rank)) if histories else []
        except (Unavailable, DeadlineExceeded, Overloaded, ServerFailed) as error:
            if request.fallback is None:
                raise
            LOGGER.warning("answering with the users' own most frequent tags: %s", error)
            with _numbered(len(histories)):
                answers = [_own_tags(place, history, request, error) for place, history in enumerate(histories)]
        except InvalidHistory:
            with _numbered(len(histories)):
                raise
        observation.answers = tuple(answers)
    return observation.answers


def _rank(context: Context, images: NDArray[np.uint8], histories: Histories, rank: Rank) -> Flow[list[Recommendation]]:
    """Let the candidate answer the users in its share, and the release all others, and where the candidate fails."""
    share = context.settings.share() if context.request.user is not None else 0.0
    if (on_candidate := (yield from candidate_takes(context, share))) is not None:
        candidate = context.client.candidate
        try:
            answers = yield from rank(on_candidate, images, histories)
        except ServerError as error:
            if error.status == NOT_FOUND:
                candidate.is_gone()
            elif not isinstance(error, ServerFailed | ServerRejected | ContractMismatch):
                raise  # the server's state, which the release would meet too
            LOGGER.info("the release answers for the candidate: %s", error)
        else:
            candidate.release = answers[0].model_version  # another candidate may have replaced it
            return answers
    return (yield from rank(context, images, histories))


def _tensors(images: Images, context: Context) -> Flow[NDArray[np.uint8]]:
    """The prepared images, uint8 [batch, 224, 224, 3]. Raises DeadlineExceeded if they have taken all the time."""
    max_pixels = context.settings.max_pixels

    def one(place: int) -> NDArray[np.uint8]:
        try:
            return prepare(images[place], max_pixels=max_pixels).tensor
        except InvalidImage as error:
            if len(images) == 1:
                raise
            raise InvalidImage(f"picture {place + 1} of {len(images)}: {error}", index=place) from error

    def work() -> NDArray[np.uint8]:
        return np.stack([one(place) for place in range(len(images))])

    if not images:
        return np.empty(0, dtype=np.uint8)
    if len(images) == 1 and isinstance(images[0], PreparedImage):
        return images[0].tensor[np.newaxis]  # without a copy
    began = time.monotonic()
    tensors: NDArray[np.uint8] = yield Compute(work)
    if context.deadline.over(0):
        raise DeadlineExceeded(
            f"no time was left to ask {context.settings.url}: to prepare {len(images)} picture(s) took "
            f"{time.monotonic() - began:.2g} s of {context.deadline.seconds:g} s; pass smaller pictures, lower "
            f"max_pixels, or raise deadline_s [request id: {context.request.id}]"
        )
    return tensors


def _rank_in_batches(context: Context, images: NDArray[np.uint8], histories: Histories) -> Flow[list[Recommendation]]:
    size, answers = context.settings.max_batch_size, []
    for start in range(0, len(histories), size):
        batch = slice(start, start + size)
        with placed(start):
            answers += yield from rank_pairs(context, images[batch], histories[batch])
    return answers


@contextmanager
def _numbered(histories: int) -> Iterator[None]:
    """Say which of several histories is refused inside."""
    try:
        yield
    except InvalidHistory as error:
        if histories > 1 and error.index is not None:
            error.args = (message(f"history {error.index + 1} of {histories}: {error}"),)
        raise


def _own_tags(place: int, history: History, request: Request, error: ServerError) -> Recommendation:
    """The fallback: the user's own most frequent tags, none for a user without history."""
    with placed(place):
        counts = {} if history is None else checked_mapping(history)
        own = {tag: count for tag, value in counts.items() if (count := checked_count(tag, value))}
    best = most_frequent(own, request.k)
    tags = tuple(Tag(tag, own[tag] / own[best[0]]) for tag in best)
    return Recommendation(tags, model_version=None, request_id=request.id, fallback=error)


def _sequence(name: str, values: Sequence[T]) -> list[T]:
    """The values as a list; raises InvalidRequest for a single image or history."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes | bytearray | memoryview):
        raise InvalidRequest(f"{name}: expected a list or tuple, got {type(values).__name__}")
    return list(values)
