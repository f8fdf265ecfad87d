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


TOO_LATE = "did not answer within {:g} s; raise deadline_s, or look at its load"
SIGNS: tuple[tuple[str, str, type[ServerError], str], ...] = (
    ("UNAVAILABLE", "Request timeout expired", DeadlineExceeded, TOO_LATE),
    ("DEADLINE_EXCEEDED", "", DeadlineExceeded, TOO_LATE),
    ("UNAVAILABLE", "protocol is restricted", ServerRejected, "asks for a key; pass it in headers"),
    ("UNAVAILABLE", "Exceeds maximum queue size", Unavailable, "has a full queue; ask again later, or add replicas"),
    (
        "UNAVAILABLE",
        "(?i)handshake failed|CERTIFICATE_VERIFY_FAILED|Hostname Verification Check failed",
        TLSFailed,
        "and this client do not trust each other; look at its certificate (dates, names, CA) and TLS(...) in Channel",
    ),
    (
        "UNAVAILABLE",
        r"last error: UNAVAILABLE: \S+: Socket closed",  # while connecting
        TLSFailed,
        "hung up at once; does it want TLS, or a client certificate (TLS(...) in Channel)? Is this its gRPC port?",
    ),
    ("UNAVAILABLE", "", Unavailable, "does not answer; is Triton running, is this its gRPC port?"),
    (
        "NOT_FOUND",
        "has no available versions",  # also what a server says that shuts down
        Unavailable,
        "has not loaded the model, or is shutting down; ask again later, or look at its log",
    ),
    # tritonclient does not raise what the caller cancelled.
    ("CANCELLED", "", Unavailable, "gave the request up, as a server does that shuts down; ask again"),
    ("INTERNAL|UNKNOWN|DATA_LOSS", "", ServerFailed, "broke while it answered; look at its log"),
    ("RESOURCE_EXHAUSTED", "", ServerRejected, "is behind a limit; send fewer pictures, or raise max_message_bytes"),
    ("", "", ServerRejected, "refused the request"),
)
"""gRPC status, words of the message, kind, advice; the first that fits. The words (of tritonserver 2.51 and grpcio
1.85) tell what the status does not."""


def from_triton(error: InferenceServerException, url: str, deadline_s: float, request_id: str) -> ServerError:
    """Map tritonclient's one exception to this package's family."""
    status, words = str(error.status()).removeprefix("StatusCode."), str(error.message())
    kind, advice = next(
        (kind, advice)
        for statuses, sign, kind, advice in SIGNS
        if re.match(statuses, status) and re.search(sign, words)
    )
    return kind(f"{url} {advice.format(deadline_s)} [request id: {request_id}]: {words}")
