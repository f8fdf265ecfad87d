"""The state of a client and of one call, and requests to the server with a deadline and retries."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from .. import contract
from ..channel import check_headers
from ..checks import checked_seconds
from ..errors import DeadlineExceeded, Overloaded, ServerError, Unavailable, from_triton
from ..settings import Request, Settings, checked_request
from ..vocabulary import Vocabulary
from .candidate import Candidate, position
from .flow import Call, Deadline, Flow, Once, Pause, Slot, Usable, compute
from .in_flight import WAIT_SHARE, InFlight
from .observe import Observation, Telemetry
from .retry import Retries
from .vocabulary_cache import VocabularyCache
from .wire import inputs, ranked, read_answer, served_release, vocabulary_size

LOGGER = logging.getLogger("altreco_client")

NOT_FOUND = "NOT_FOUND"
"""Status of a model that is not loaded."""
READY_PAUSE_S = 0.2
"""Pause between two questions whether the server is ready."""


class ClientState:
    """The settings of a client, and what its calls share. Raises InvalidRequest."""

    def __init__(self, settings: Settings) -> None:
        """Send nothing; the vocabulary is not known yet."""
        self.settings = settings
        self.usable = Usable()
        self.headers = check_headers(settings.headers)
        self.vocabulary = VocabularyCache(settings.vocabulary_check_s)
        self.retries = Retries(settings.channel)
        self.in_flight = InFlight(settings.channel.max_in_flight)
        self.telemetry = Telemetry(settings.url) if settings.opentelemetry else None
        self.candidate = Candidate()
        self.on_candidate = copy(self)
        """For calls to the candidate: its model and its vocabulary, and everything else shared."""
        self.on_candidate.settings = replace(settings, model_name=contract.CANDIDATE.name)
        self.on_candidate.vocabulary = VocabularyCache(settings.vocabulary_check_s)


@dataclass(frozen=True)
class Context:
    """One call of a client. All its requests share the deadline, the request id and the headers."""

    client: ClientState
    request: Request
    deadline: Deadline
    headers: dict[str, str] = field(repr=False)
    observation: Observation

    @property
    def settings(self) -> Settings:
        """The client's settings."""
        return self.client.settings


def ask(context: Context, method: str, **arguments: Any) -> Flow[Any]:
    """Call a method of tritonclient, and retry it where that is safe; raises ServerError."""
    retries, attempt = context.client.retries, 1
    while True:
        if method == "infer":
            yield from _slot(context)
        sent, answered = time.monotonic(), False
        try:
            result = yield from _attempt(context, method, arguments)
            answered = True
        except ServerError as failure:
            final = context.client.usable.closed or _no_candidate(context, failure)
            pause_s = None if final else retries.pause_s(failure, attempt)
            if pause_s is None or context.deadline.over(pause_s):
                raise
            last = failure
            LOGGER.info("attempt %d failed, next one in %.3f s: %s", attempt, pause_s, failure)
        else:
            retries.answered()
            return result
        finally:
            if method == "infer":
                _leave(context, sent, answered=answered)
        # Without a slot, so that calls that wait for a server that is gone do not keep others waiting.
        yield Pause(pause_s)
        if context.deadline.over(0):  # a pause may take longer: what failed says more than that no time is left
            raise last
        attempt += 1


def _no_candidate(context: Context, failure: ServerError) -> bool:
    """Whether the candidate is not loaded. Then the release answers, and there is nothing to wait for."""
    return context.settings.model_name == contract.CANDIDATE.name and failure.status == NOT_FOUND


def candidate_takes(context: Context, share: float) -> Flow[Context | None]:
    """The context in which the candidate answers, if there is one and the call's user is in its share."""
    user, candidate = context.request.user, context.client.candidate
    if user is None or not share or not candidate.may_be_there():
        return None
    if (release := candidate.release) is None:
        name = contract.CANDIDATE.name
        try:
            metadata = yield from _attempt(context, "get_model_metadata", {"model_name": name})
            release = candidate.release = served_release(name, metadata)
        except ServerError as error:
            LOGGER.info("no candidate: %s", error)
            candidate.is_gone()
            return None
    if position(user, release) >= share:
        return None
    return replace(context, client=context.client.on_candidate)


def _attempt(context: Context, method: str, arguments: Mapping[str, Any]) -> Flow[Any]:
    """Call a method of tritonclient once; raises ServerError."""
    left = context.deadline.left()
    sent = time.monotonic()
    try:
        return (yield Call(method, {**arguments, "client_timeout": left, "headers": context.headers}))
    except InferenceServerException as error:
        raise from_triton(
            error,
            context.settings.url,
            deadline_s=context.deadline.seconds,
            waited_s=time.monotonic() - sent,
            request_id=context.request.id,
            hint=context.settings.channel.proxy_hint(),
        ) from None  # the server's words are in the message, escaped; a traceback would show them raw


def infer(
    context: Context,
    model: str,
    tensors: list[triton.InferInput],
    *,
    outputs: list[triton.InferRequestedOutput] | None = None,
    version: str = "",
) -> Flow[triton.InferResult]:
    """Run one inference, when this client's limit of requests in flight has room for it. Raises ServerError."""
    return ask(
        context,
        "infer",
        model_name=model,
        model_version=version,
        inputs=tensors,
        outputs=outputs,
        request_id=context.request.id,
    )


def wait_for_room(context: Context) -> Flow[None]:
    """Wait for a quarter of the deadline if those that wait for a slot take longer; raises Overloaded if some remain.

    It comes before the pictures are prepared, so that a call that will be refused costs next to nothing. It is not
    refused at once, because callers that ask again without a pause would take the cores from those that are answered.
    """
    limit, longest_s = context.client.in_flight, _longest_wait_s(context)
    if limit.wait_s() <= longest_s:
        return
    yield Pause(longest_s)
    context.observation.waited_s += longest_s
    if limit.wait_s():
        raise _overloaded(context, f"those that wait for one of them did not get it within {longest_s:.2g} s")


def _slot(context: Context) -> Flow[None]:
    """Take a slot, or wait for one; raises Overloaded."""
    limit, deadline = context.client.in_flight, context.deadline
    if (waiter := limit.enter()) is None:
        return
    started, given = time.monotonic(), False
    try:
        given = yield Slot(waiter, min(_longest_wait_s(context), deadline.left()))
    finally:
        waited_s = time.monotonic() - started
        context.observation.waited_s += waited_s
        if not given:
            limit.give_up(waiter)
    if not given:
        raise _overloaded(context, f"none of them made room within {waited_s:.2g} s")


def _longest_wait_s(context: Context) -> float:
    """Longest wait for a slot, in seconds."""
    return WAIT_SHARE * context.deadline.seconds


def _overloaded(context: Context, why: str) -> Overloaded:
    limit = context.client.in_flight.limit
    context.observation.in_flight_limit = limit
    return Overloaded(
        f"{context.settings.url} has too much to do: this client has {limit} requests in flight there, its limit, and "
        f"{why}; ask again later, or add replicas [request id: {context.request.id}]"
    )


def _leave(context: Context, sent: float, *, answered: bool) -> None:
    """Free the slot of a request that was sent at `sent` (time.monotonic)."""
    limit = context.client.in_flight
    limit.leave(sent, context.deadline.seconds, answered=answered)
    context.observation.in_flight_limit = limit.limit


def internal_context(client: ClientState) -> Context:
    """The context of a request that the client makes for itself."""
    settings = client.settings
    request = checked_request(1, settings.deadline_s)
    deadline = Deadline(settings.deadline_s, settings.url)
    return Context(client, request, deadline, dict(client.headers), Observation())


def ready(client: ClientState) -> Flow[bool]:
    """Whether the ensemble is loaded; False if no server answers."""
    try:
        return bool((yield from ask(internal_context(client), "is_model_ready", model_name=client.settings.model_name)))
    except ServerError:
        return False


def wait_ready(client: ClientState, timeout_s: float) -> Flow[None]:
    """Return when the ensemble is loaded. Raises the last error if it is not after `timeout_s` seconds."""
    timeout_s = checked_seconds("timeout_s", timeout_s)
    deadline = Deadline(timeout_s, client.settings.url)
    context = replace(internal_context(client), deadline=deadline)
    while True:
        failure: ServerError
        try:
            if (yield from _attempt(context, "is_model_ready", {"model_name": client.settings.model_name})):
                return
            failure = Unavailable(f"model {client.settings.model_name!r} is not loaded; look at the server's log")
        except (Unavailable, Overloaded, DeadlineExceeded) as error:
            failure = error
        if client.usable.closed or deadline.over(READY_PAUSE_S):
            raise failure
        yield Pause(READY_PAUSE_S)
        if deadline.over(0):  # the pause took longer; the failure says more than that no time is left
            raise failure


def known_vocabulary(context: Context) -> Flow[Vocabulary]:
    """The vocabulary in use. Ask the server for it if there is none yet."""
    cache = context.client.vocabulary
    if cache.current is not None:
        return cache.current
    vocabulary: Vocabulary = yield Once(lambda: learn(context), lambda: cache.current, context.deadline)
    return vocabulary


def learn(context: Context) -> Flow[Vocabulary]:
    """Ask for the vocabulary's size N, then for the labels of all N classes for a blank picture."""
    model = context.settings.model_name
    metadata = yield from ask(context, "get_model_metadata", model_name=model)
    n = vocabulary_size(model, metadata, context.settings.channel.max_message_bytes)
    blank = inputs(
        (contract.IMAGE, np.zeros((1, *contract.IMAGE.dims), dtype=np.uint8)),
        (contract.USER_TAG_COUNTS, np.zeros((1, n), dtype=np.float32)),
    )
    result = yield from infer(context, model, blank, outputs=ranked(n))
    return (yield from compute(n, lambda: context.client.vocabulary.learn(read_answer(result, 1, n, n))))
