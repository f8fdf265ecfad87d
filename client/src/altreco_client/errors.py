"""What can go wrong, as a tree:

AltrecoError
|- InvalidRequest (ValueError)      the caller's arguments: nothing was sent
|  |- InvalidImage                  not an image, truncated, too large
|  `- InvalidHistory                a count that is negative or not finite
|     `- UnknownTag                 a tag that the server's vocabulary does not have
`- ServerError                      the call was made
   |- Unavailable (ConnectionError) no server there, or it is shutting down: try again later
   |- DeadlineExceeded (TimeoutError)
   |- ServerRejected                the server answered with an error of its own
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
    """No server answers at the address, or it is shutting down."""


class DeadlineExceeded(ServerError, TimeoutError):
    """No answer within the deadline."""


class ServerRejected(ServerError):
    """The server answered with an error of its own."""


class ContractMismatch(ServerError):
    """The server's model does not have the tensors, dimensions or labels of the contract."""


def from_triton(error: InferenceServerException, url: str, deadline_s: float) -> ServerError:
    """Map tritonclient's one exception to this package's family, by gRPC status."""
    status, message = str(error.status()), error.message()
    if status == "StatusCode.UNAVAILABLE":
        return Unavailable(f"no server answers at {url}: {message}. Is Triton running, is this its gRPC port?")
    if status == "StatusCode.DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"{url} did not answer within {deadline_s:g} s; raise deadline_s or look at its load")
    return ServerRejected(f"{url} refused the request: {message}")
