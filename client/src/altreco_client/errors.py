"""What can go wrong, as a tree:

AltrecoError
|- InvalidRequest (ValueError)      the caller's arguments, or how the client is used: nothing was sent
|  |- InvalidImage                  not an image, truncated, too large
|  `- InvalidHistory                a count that is negative or not finite, something that is no history
|     `- UnknownTag                 a tag that the server's vocabulary does not have
`- ServerError                      the call was made
   |- Unavailable (ConnectionError) no server there, it is shutting down, or its queue is full: try again later
   |  `- TLSFailed                  the two do not trust each other: look at the certificates
   |- DeadlineExceeded (TimeoutError)
   |- ServerFailed                  the server broke while answering: look at its log
   |- ServerRejected                the server refused the request
   `- ContractMismatch              the server serves other tensors than this client speaks
"""

from __future__ import annotations

import re

from tritonclient.utils import InferenceServerException


class AltrecoError(Exception):
    """Base of every error that this package raises."""


class InvalidRequest(AltrecoError, ValueError):
    """The arguments cannot be sent; the message says what was expected."""


class InvalidImage(InvalidRequest):
    """The image cannot be read, or is over the limits."""


class InvalidHistory(InvalidRequest):
    """The tag history holds something else than finite counts of zero or more."""


class UnknownTag(InvalidHistory):
    """The history names tags outside the server's vocabulary; `tags` lists them."""

    def __init__(self, message: str, tags: tuple[str, ...]) -> None:
        """Keep the tags beside the message."""
        super().__init__(message)
        self.tags = tags


class ServerError(AltrecoError):
    """The server could not answer."""


class Unavailable(ServerError, ConnectionError):
    """No server answers at the address, it is shutting down, or its queue is full."""


class TLSFailed(Unavailable):
    """The TLS handshake failed."""


class DeadlineExceeded(ServerError, TimeoutError):
    """No answer within the deadline."""


class ServerFailed(ServerError):
    """The server broke while it answered."""


class ServerRejected(ServerError):
    """The server refused the request."""


class ContractMismatch(ServerError):
    """The server's model does not have the tensors, dimensions or labels of the contract."""


# What gRPC's status does not tell, Triton's and gRPC's words do (tritonserver 2.51, grpcio 1.85).
QUEUE_TIMEOUT = "Request timeout expired"
QUEUE_FULL = "Exceeds maximum queue size"
NOT_LOADED = "has no available versions"
RESTRICTED = "protocol is restricted"
HANDSHAKE = re.compile("handshake failed|CERTIFICATE_VERIFY_FAILED|Hostname Verification Check failed", re.IGNORECASE)
HUNG_UP = re.compile(r"last error: UNAVAILABLE: .*Socket closed")
"""While connecting: one side speaks TLS and the other does not, or a client certificate is missing."""


def from_triton(error: InferenceServerException, url: str, deadline_s: float, request_id: str) -> ServerError:
    """Map tritonclient's one exception to this package's family, by gRPC status and, where it must be, by words."""
    kind, advice = _kind(str(error.status()).removeprefix("StatusCode."), error.message(), deadline_s)
    return kind(f"{url} {advice} [request id: {request_id}]: {error.message()}")


def _kind(status: str, words: str, deadline_s: float) -> tuple[type[ServerError], str]:
    if status == "DEADLINE_EXCEEDED" or QUEUE_TIMEOUT in words:
        return DeadlineExceeded, f"did not answer within {deadline_s:g} s; raise deadline_s, or look at its load"
    if status == "UNAVAILABLE":
        return _kind_of_unavailable(words)
    if NOT_LOADED in words:  # also the answer of a server that shuts down
        return Unavailable, "has not loaded the model, or is shutting down; ask again later, or look at its log"
    if status == "CANCELLED":  # nobody here cancelled: tritonclient would not have raised this
        return Unavailable, "gave the request up, as a server does that shuts down; ask again"
    if status in ("INTERNAL", "UNKNOWN", "DATA_LOSS"):
        return ServerFailed, "broke while it answered; look at its log"
    if status == "RESOURCE_EXHAUSTED":
        return ServerRejected, "is behind a limit on messages; send fewer pictures, or raise max_message_bytes"
    return ServerRejected, "refused the request"


def _kind_of_unavailable(words: str) -> tuple[type[ServerError], str]:
    if RESTRICTED in words:
        return ServerRejected, "asks for a key; pass it in headers"
    if QUEUE_FULL in words:
        return Unavailable, "has a full queue; ask again later, or add replicas"
    if HANDSHAKE.search(words):
        return TLSFailed, (
            "does not get on with this client over TLS; look at its certificate (dates, names, the CA that signed it) and "
            "at TLS(...) in Channel"
        )
    if HUNG_UP.search(words):
        return TLSFailed, (
            "hung up at once; does it want TLS, or a certificate of the client's (TLS(...) in Channel), is this its gRPC "
            "port?"
        )
    return Unavailable, "does not answer; is Triton running, is this its gRPC port?"
