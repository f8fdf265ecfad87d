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


QUEUE_TIMEOUT = "Request timeout expired"
"""Triton's words for a request that its queue dropped, under the status UNAVAILABLE."""

TLS_SIGNS = ("handshake", "certificate", "ssl", "tls")


def from_triton(error: InferenceServerException, url: str, deadline_s: float, request_id: str) -> ServerError:
    """Map tritonclient's one exception to this package's family, by gRPC status."""
    status = str(error.status()).removeprefix("StatusCode.")
    message = f"{error.message()} [request id: {request_id}]"
    if status == "DEADLINE_EXCEEDED" or QUEUE_TIMEOUT in message:
        return DeadlineExceeded(
            f"{url} did not answer within {deadline_s:g} s; raise deadline_s or look at its load "
            f"[request id: {request_id}]"
        )
    if status == "UNAVAILABLE":
        return _unavailable(url, message)
    if status == "CANCELLED":  # nobody here cancelled: tritonclient would not have raised this
        return Unavailable(f"{url} gave the request up, as a server does that shuts down; ask again: {message}")
    if status in ("INTERNAL", "UNKNOWN", "DATA_LOSS"):
        return ServerFailed(f"{url} broke while it answered; its log says more: {message}")
    if status == "RESOURCE_EXHAUSTED":
        return ServerRejected(f"over a limit on the way to {url}; send fewer pictures in one request: {message}")
    return ServerRejected(f"{url} refused the request: {message}")


def _unavailable(url: str, message: str) -> ServerError:
    if "protocol is restricted" in message:
        return ServerRejected(f"{url} asks for a key; pass it in headers: {message}")
    if "maximum queue size" in message:
        return Unavailable(f"the queue of {url} is full; ask again later, or add replicas: {message}")
    if any(sign in message.lower() for sign in TLS_SIGNS):
        return TLSFailed(
            f"no TLS connection to {url}; look at its certificate and its dates, and at tls in Channel (the CA that "
            f"signed it, a certificate of your own if the server asks for one): {message}"
        )
    return Unavailable(f"no server answers at {url}; is Triton running, is this its gRPC port? {message}")
