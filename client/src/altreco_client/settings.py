"""What a caller may set, for a client and for one call, checked."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from . import contract
from .call.observe import CallReport
from .channel import Channel, check_headers
from .checks import check_keywords, checked_id, checked_seconds, checked_share, checked_whole
from .errors import InvalidRequest
from .images import MAX_PIXELS

DEFAULT_CHANNEL = Channel()
REQUEST_ID = re.compile(r"[!-~]{1,128}")


class ClientSettings(TypedDict, total=False):
    """The keyword arguments of both clients' constructors.

    - `model_name`: the ensemble's name (default: tag_recommender).
    - `deadline_s`: seconds for each call, unless the call sets its own (default: 5). Waiting for
      `Channel.max_in_flight` may take a quarter of it; then the call raises Overloaded.
    - `max_pixels`: largest accepted picture, width x height; a larger one raises InvalidImage (default: 64 million).
    - `max_batch_size`: rows in one request; a larger batch is sent in parts. It may not exceed the limit in the
      server's model configs (default: 32, the limit in the committed ones).
    - `channel`: TLS, retries, keepalive and limits.
    - `headers`: gRPC metadata to send with every request, such as a key.
    - `on_call`: a function that is called with a CallReport after every call, in the thread that made the call.
    - `opentelemetry`: record a span and a duration for every call; needs `pip install 'altreco-client[opentelemetry]'`.
    - `vocabulary_check_s`: seconds between two comparisons of the whole vocabulary with the server's (default: 60).
    - `candidate_share`: share of the users, 0 to 1, whom a candidate release answers while the server has one; or a
      function that returns it, called with every call that has a `user` (default: 0).
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
    candidate_share: float | Callable[[], float]


class Options(TypedDict, total=False):
    """The options of every `recommend...` method.

    - `deadline_s`: seconds for the whole call, including image decoding, waiting and retries (default: the client's).
    - `unknown_tags`: "error" raises UnknownTag for history tags that the server does not know, "ignore" leaves them out
      and lists them in the Recommendation (default: "ignore" for a TagHistory, whose tags may be older than the
      vocabulary, and "error" for any other mapping, where an unknown tag is probably a typing error).
    - `fallback`: "history" returns the user's own most frequent tags if the server is down, late, overloaded or
      failing; the Recommendation's `fallback` is then the error.
    - `request_id`: an id for Triton's log and for error messages, 1 to 128 printable ASCII characters (default:
      random).
    - `headers`: gRPC metadata to send in addition to the client's.
    - `user`: the id of the user whose call this is, which decides with `candidate_share` which release answers. It is
      not sent. Without it the served release answers.
    """

    deadline_s: float | None
    unknown_tags: Literal["error", "ignore"] | None
    fallback: Literal["history"] | None
    request_id: str | None
    headers: Mapping[str, str] | None
    user: str | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A client's settings with their defaults. Raises InvalidRequest."""

    url: str
    model_name: str = contract.TAG_RECOMMENDER.name
    deadline_s: float = 5.0
    max_pixels: int = MAX_PIXELS
    max_batch_size: int = contract.MAX_BATCH_SIZE
    channel: Channel = DEFAULT_CHANNEL
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    on_call: Callable[[CallReport], None] | None = None
    opentelemetry: bool = False
    vocabulary_check_s: float = 60.0
    candidate_share: float | Callable[[], float] = 0.0

    def __post_init__(self) -> None:
        """Check the values; nothing is sent."""
        checked_seconds("deadline_s", self.deadline_s)
        for name in ("max_pixels", "max_batch_size"):
            checked_whole(name, getattr(self, name))
        checked_seconds("vocabulary_check_s", self.vocabulary_check_s, zero=True)
        check_headers(self.headers)
        if not isinstance(self.channel, Channel):
            kind = type(self.channel).__name__
            raise InvalidRequest(f"channel is {kind}: expected Channel(...), such as Channel(tls=TLS(...))")
        if not callable(self.candidate_share):
            checked_share("candidate_share", self.candidate_share)

    def share(self) -> float:
        """The share of users for a candidate at this moment; raises InvalidRequest."""
        share = self.candidate_share
        return checked_share("candidate_share()", share()) if callable(share) else share


def checked_settings(client: str, url: str, given: ClientSettings) -> Settings:
    """Check the keyword arguments of a client's constructor. Raises InvalidRequest, or TypeError for an unknown one."""
    check_keywords(client, given, ClientSettings.__annotations__)
    return Settings(url=url, **given)


@dataclass(frozen=True, kw_only=True)
class Request:
    """The checked options of one call, with their defaults filled in."""

    k: int
    deadline_s: float
    unknown_tags: Literal["error", "ignore"] | None
    fallback: Literal["history"] | None
    id: str
    headers: Mapping[str, str] = field(repr=False)
    user: str | None = field(repr=False)


def checked_request(
    k: int,
    default_deadline_s: float,
    *,
    deadline_s: float | None = None,
    unknown_tags: Literal["error", "ignore"] | None = None,
    fallback: Literal["history"] | None = None,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Request:
    """Check k and the `Options` of one call; raises InvalidRequest."""
    if unknown_tags not in (None, "error", "ignore"):
        raise InvalidRequest(f'unknown_tags is {unknown_tags!r}: expected "error" or "ignore"')
    if fallback not in (None, "history"):
        raise InvalidRequest(f'fallback is {fallback!r}: expected "history", or None to raise the error instead')
    return Request(
        k=checked_whole("k", k),
        deadline_s=checked_seconds("deadline_s", default_deadline_s if deadline_s is None else deadline_s),
        unknown_tags=unknown_tags,
        fallback=fallback,
        id=os.urandom(16).hex() if request_id is None else _checked_id(request_id),
        headers=check_headers(headers) if headers else {},
        user=None if user is None else checked_id("user", user),
    )


def _checked_id(request_id: object) -> str:
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest(f"request_id {request_id!r}: expected 1 to 128 printable ASCII characters without spaces")
    return request_id
