"""The errors of this package.

Catch `InvalidRequest` for mistakes of the caller, and `ServerError` for a server that could not answer.

    AltrecoError
    |- InvalidRequest (ValueError)      a mistake in the arguments or in the use of the client; nothing was sent
    |  |- InvalidImage                  not an image, truncated, too large
    |  `- InvalidHistory                not a history, or a count that is negative, not finite or beyond float32
    |     `- UnknownTag                 a tag outside the server's vocabulary
    |- HistoriesUnavailable (ConnectionError)  the database of `altreco_client.histories` is away
    `- ServerError                      the server could not answer
       |- Unavailable (ConnectionError) no server, or it is shutting down: try again later
       |  `- TLSFailed                  the TLS handshake failed: look at the certificates
       |- DeadlineExceeded (TimeoutError)
       |- Overloaded                    the server has too much to do: ask again later, or add replicas
       |- ServerFailed                  the server failed while answering, or its answer is malformed: look at its log
       |- ServerRejected                the server refused the request
       `- ContractMismatch              the server speaks another version of the contract than the client
"""

from __future__ import annotations

import re

from tritonclient.utils import InferenceServerException

from .text import message


class AltrecoError(Exception):
    """Base class of every error that this package raises. Its message is one line that is safe to print and to log."""

    def __init__(self, text: str = "") -> None:
        """Escape control characters in the text, and cut it: parts of it may come from a server or a file."""
        super().__init__(message(str(text)))


class InvalidRequest(AltrecoError, ValueError):
    """The arguments cannot be sent; the message says what was expected."""


class InvalidImage(InvalidRequest):
    """The image cannot be read, or exceeds a limit. `index` is its place among several images, from 0."""

    def __init__(self, text: str = "", *, index: int | None = None) -> None:
        """Keep the place beside the message."""
        super().__init__(text)
        self.index = index


class InvalidHistory(InvalidRequest):
    """The history is not a mapping of tags to finite counts of zero or more that fit float32.

    `index` is its place among the histories of a call, from 0.
    """

    index: int | None = None


class UnknownTag(InvalidHistory):
    """The history names tags outside the server's vocabulary; `tags` lists them."""

    def __init__(self, text: str, tags: tuple[str, ...] = ()) -> None:
        """Keep the tags beside the message; pickle passes the message alone, and sets them afterwards."""
        super().__init__(text)
        self.tags = tags


class HistoriesUnavailable(AltrecoError, ConnectionError):
    """The database of the histories is away, locked, or refuses.

    It is no ServerError, because Triton may answer: without a history, it suggests tags for the picture alone.
    """


class ServerError(AltrecoError):
    """The server could not answer. `status` is the gRPC status, such as UNAVAILABLE, if that was the answer."""

    status: str = ""


class Unavailable(ServerError, ConnectionError):
    """No server answers at the address, or it is shutting down."""


class TLSFailed(Unavailable):
    """The TLS handshake failed."""


class DeadlineExceeded(ServerError, TimeoutError):
    """No answer within the deadline."""


class Overloaded(ServerError):
    """The server or its proxy has too much to do, or this client has as many requests in flight as it answers in time.

    It is not retried: more requests would make it worse.
    """


class ServerFailed(ServerError):
    """The server failed while answering, or gave an answer that no model gives."""


class ServerRejected(ServerError):
    """The server refused the request."""


class ContractMismatch(ServerError):
    """The server's model does not have the tensors, dimensions or labels of the contract."""


SIGNS: tuple[tuple[str, str, type[ServerError], str], ...] = (
    (
        "UNAVAILABLE",
        "Request timeout expired",
        DeadlineExceeded,
        "dropped the request after {waited_s:.3g} s in its queue, which its configuration limits; look at its load",
    ),
    (
        "DEADLINE_EXCEEDED",
        "",
        DeadlineExceeded,
        "did not answer within {deadline_s:g} s, the last {waited_s:.3g} s of them after the request was sent; raise "
        "deadline_s, or look at the server's load",
    ),
    ("UNAVAILABLE", "protocol is restricted", ServerRejected, "asks for a key; pass it in headers"),
    ("UNAVAILABLE", "Exceeds maximum queue size", Overloaded, "has a full queue; ask again later, or add replicas"),
    (
        "UNAVAILABLE",
        "reset reason: overflow|envoy overloaded|http2 header with status: 429",
        Overloaded,
        "is behind a proxy that has too much to do; ask again later, or add replicas",
    ),
    (
        "UNAVAILABLE",
        "WRONG_VERSION_NUMBER",
        TLSFailed,
        "speaks no TLS at this port: connect without it, or look at the port",
    ),
    (
        "UNAVAILABLE",
        "(?i)handshake failed|CERTIFICATE_VERIFY_FAILED|Hostname Verification Check failed",
        TLSFailed,
        "failed the TLS handshake; look at its certificate (dates, names, CA) and at TLS(...) in Channel",
    ),
    (
        "UNAVAILABLE",
        r"last error: UNAVAILABLE: \S+: Socket closed",  # while connecting
        TLSFailed,
        "closed the connection; does it want TLS or a client certificate (TLS(...) in Channel)? Is this its gRPC port?",
    ),
    ("UNAVAILABLE", "", Unavailable, "does not answer; is Triton running, is this its gRPC port?"),
    (
        "NOT_FOUND",
        "has no available versions",  # a server that is shutting down says this too
        Unavailable,
        "has not loaded the model, or is shutting down; ask again later, or look at its log",
    ),
    # Only the server's cancellations: tritonclient raises no error for the caller's own.
    ("CANCELLED", "", Unavailable, "cancelled the request, as it does when it shuts down; ask again"),
    ("INTERNAL|UNKNOWN|DATA_LOSS", "", ServerFailed, "failed while answering; look at its log"),
    (
        "RESOURCE_EXHAUSTED",
        "larger than max",
        ServerRejected,
        "or this client has a limit on message sizes; send fewer pictures, or raise max_message_bytes",
    ),
    (
        "RESOURCE_EXHAUSTED",
        "",
        Overloaded,
        "or a proxy has too much to do, or a rate limit; ask again later, or add replicas",
    ),
    ("", "", ServerRejected, "refused the request"),
)
"""Patterns for the gRPC status and its message, the error to raise, and advice. The first match counts. The messages
are those of tritonserver 2.51, grpcio 1.85 and Envoy."""


def from_triton(
    error: InferenceServerException, url: str, *, deadline_s: float, waited_s: float, request_id: str, hint: str = ""
) -> ServerError:
    """Convert tritonclient's only exception to one of this package's errors.

    `deadline_s` is the call's; `waited_s` is the time from sending this request to its failure; `hint` is further
    advice if no server answers.
    """
    status, words = str(error.status()).removeprefix("StatusCode."), str(error.message())
    kind, advice = next(
        (kind, advice)
        for statuses, sign, kind, advice in SIGNS
        if re.match(statuses, status) and re.search(sign, words)
    )
    advice = advice.format(deadline_s=deadline_s, waited_s=waited_s) + (hint if kind is Unavailable else "")
    failure = kind(f"{url} {advice} [request id: {request_id}]: {words}")
    failure.status = status
    return failure
