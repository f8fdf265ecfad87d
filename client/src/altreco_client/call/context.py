"""What the sync and the asyncio client share: the settings, what was learned, and how the server is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from .. import contract
from ..channel import Channel, check_headers
from ..errors import InvalidRequest, ServerError, from_triton
from ..images import MAX_PIXELS
from ..settings import Request, check_deadline
from ..vocabulary import Vocabulary
from .flow import Call, Deadline, Flow, Once, Pause
from .observe import CallReport, Telemetry
from .retry import Retries
from .vocabulary_cache import VocabularyCache
from .wire import inputs, ranked, read_answer, vocabulary_size

LOGGER = logging.getLogger("altreco_client")
DEFAULT_CHANNEL = Channel()

QUEUE_SHARE = 0.5
"""Of what is left of the deadline, how much a request may wait in the server's queue. The rest is for the batch that it
ends up in, a full one under overload: with less, the server works for nobody when it is asked most."""


class ClientSettings(TypedDict, total=False):
    """The keywords of both clients' constructors.

    model_name: of the ensemble (default: tag_recommender).
    deadline_s: seconds for every call, unless the call says otherwise (default: 5).
    max_pixels: of a picture, width x height; more is InvalidImage (default: MAX_PIXELS).
    max_batch_size: rows of one request; larger batches are sent in parts. At most what the server's configs allow
        (default: 32, which the committed ones do).
    channel: TLS, retries, keepalive, limits.
    headers: gRPC metadata for every request, such as a key.
    on_call: is given a CallReport after every call, where the call was made.
    opentelemetry: a span and a duration for every call; needs `pip install 'altreco-client[opentelemetry]'`.
    vocabulary_check_s: how long the vocabulary is trusted before a request asks for all of it again (default: 60).
    """

    model_name: str
    deadline_s: float
    max_pixels: int
    max_batch_size: int
    channel: Channel
    headers: Mapping[str, str]
    on_call: Callable[[CallReport], None]
    opentelemetry: bool
    vocabulary_check_s: float


@dataclass(frozen=True, kw_only=True)
class Core:
    """A client's settings with their defaults, and the vocabulary. Raises InvalidRequest."""

    url: str
    model_name: str = contract.TAG_RECOMMENDER.name
    deadline_s: float = 5.0
    max_pixels: int = MAX_PIXELS
    max_batch_size: int = contract.MAX_BATCH_SIZE
    channel: Channel = DEFAULT_CHANNEL
    headers: Mapping[str, str] = field(default_factory=dict)
    on_call: Callable[[CallReport], None] | None = None
    opentelemetry: bool = False
    vocabulary_check_s: float = 60.0
    cache: VocabularyCache = field(init=False)
    retries: Retries = field(init=False)
    telemetry: Telemetry | None = field(init=False)

    def __post_init__(self) -> None:
        """Check what was given; nothing is sent."""
        check_deadline(self.deadline_s)
        for name in ("max_pixels", "max_batch_size"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} is {getattr(self, name)!r}: expected 1 or more")
        if not self.vocabulary_check_s >= 0:
            raise InvalidRequest(f"vocabulary_check_s is {self.vocabulary_check_s!r}: expected zero or more seconds")
        object.__setattr__(self, "headers", check_headers(self.headers))
        object.__setattr__(self, "cache", VocabularyCache(self.vocabulary_check_s))
        object.__setattr__(self, "retries", Retries(self.channel))
        object.__setattr__(self, "telemetry", Telemetry(self.url) if self.opentelemetry else None)


@dataclass(frozen=True)
class Context:
    """One call of a client's: all that it asks the server has the same deadline, request id and headers."""

    core: Core
    request: Request
    deadline: Deadline
    headers: dict[str, str]


def ask(context: Context, method: str, **arguments: Any) -> Flow[Any]:
    """A call of tritonclient, again where that is safe; raises ServerError."""
    core, attempt = context.core, 1
    while True:
        left = context.deadline.left()
        if method == "infer":
            arguments["timeout"] = max(1, int(left * QUEUE_SHARE * 1e6))
        try:
            result = yield Call(method, {**arguments, "client_timeout": left, "headers": context.headers})
        except InferenceServerException as error:
            failure = from_triton(error, core.url, context.deadline.seconds, context.request.id)
            pause_s = core.retries.pause_s(failure, attempt)
            if pause_s is None or pause_s >= context.deadline.left():
                raise failure from error
            LOGGER.info("attempt %d failed, again in %.3f s: %s", attempt, pause_s, failure)
            yield Pause(pause_s)
            attempt += 1
        else:
            core.retries.answered()
            return result


def infer(
    context: Context,
    model: str,
    tensors: list[triton.InferInput],
    *,
    outputs: list[triton.InferRequestedOutput] | None = None,
    version: str = "",
) -> Flow[triton.InferResult]:
    """One inference, which the server gives up a little before the deadline; raises ServerError."""
    return ask(
        context,
        "infer",
        model_name=model,
        model_version=version,
        inputs=tensors,
        outputs=outputs,
        request_id=context.request.id,
    )


def internal_context(core: Core) -> Context:
    """For what a client asks on its own account."""
    request = Request(k=1, deadline_s=core.deadline_s)
    return Context(core, request, Deadline(core.deadline_s, core.url), dict(core.headers))


def ready(core: Core) -> Flow[bool]:
    """Whether the ensemble is loaded; False while nothing answers."""
    try:
        return bool((yield from ask(internal_context(core), "is_model_ready", model_name=core.model_name)))
    except ServerError:
        return False


def known_vocabulary(context: Context) -> Flow[Vocabulary]:
    """The one in use; learned from the server if there is none yet."""
    cache = context.core.cache
    if cache.current is not None:
        return cache.current
    vocabulary: Vocabulary = yield Once(lambda: learn(context), lambda: cache.current, context.deadline)
    return vocabulary


def learn(context: Context) -> Flow[Vocabulary]:
    """Ask for N, then for the labels of all classes of a blank picture."""
    model = context.core.model_name
    metadata = yield from ask(context, "get_model_metadata", model_name=model)
    n = vocabulary_size(model, metadata)
    blank = inputs(
        (contract.IMAGE, np.zeros((1, *contract.IMAGE.dims), dtype=np.uint8)),
        (contract.USER_HISTORY, np.zeros((1, n), dtype=np.float32)),
    )
    result = yield from infer(context, model, blank, outputs=ranked(n))
    return context.core.cache.learn(read_answer(result, 1))
