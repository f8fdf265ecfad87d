import copy
import pickle
import re

import pytest
from altreco_client import (
    AltrecoError,
    DeadlineExceeded,
    Overloaded,
    ServerFailed,
    ServerRejected,
    TLSFailed,
    Unavailable,
    errors,
)
from altreco_client.errors import from_triton
from tritonclient.utils import InferenceServerException

# The words are those of tritonserver 2.51 and grpcio 1.85.
REFUSED = (
    "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect: Connection refused"
)
HUNG_UP = "connections to all backends failing; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed"
RESET = (
    "connections to all backends failing; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Delayed close due to in-progress "
    "write (Socket closed) (sendmsg: Connection reset by peer (104))"
)
EXPIRED = "last error: UNKNOWN: Tls handshake failed: CERTIFICATE_VERIFY_FAILED: certificate has expired"
RESTRICTED = "This protocol is restricted, expecting header 'triton-grpc-protocol-key'"


@pytest.mark.parametrize(
    ("status", "words", "kind", "advice"),
    [
        ("UNAVAILABLE", REFUSED, Unavailable, "is Triton running"),
        ("UNAVAILABLE", "Stream removed (Socket closed)", Unavailable, "is Triton running"),
        (
            "UNAVAILABLE",
            "in ensemble 'tag_recommender', Request timeout expired",
            DeadlineExceeded,
            "after 1.3 s in its queue",
        ),
        ("UNAVAILABLE", "[request id: v3] Exceeds maximum queue size", Overloaded, "add replicas"),
        ("UNAVAILABLE", "upstream connect error or disconnect. reset reason: overflow", Overloaded, "behind a proxy"),
        ("UNAVAILABLE", "upstream connect error. reset reason: connection failure", Unavailable, "is Triton running"),
        ("UNAVAILABLE", "Received http2 header with status: 429", Overloaded, "behind a proxy"),
        ("UNAVAILABLE", "Received http2 header with status: 502", Unavailable, "is Triton running"),
        ("UNAVAILABLE", EXPIRED, TLSFailed, "look at its certificate"),
        ("UNAVAILABLE", RESET, Unavailable, "is Triton running"),
        ("UNAVAILABLE", HUNG_UP, TLSFailed, "does it want TLS"),
        ("UNAVAILABLE", RESTRICTED, ServerRejected, "pass it in headers"),
        ("CANCELLED", "CANCELLED", Unavailable, "ask again"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded, "within 2.5 s"),
        ("INTERNAL", "Stub process 'visual_encoder_0' is not healthy.", ServerFailed, "look at its log"),
        ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (156763 vs. 1000)", ServerRejected, "fewer"),
        ("RESOURCE_EXHAUSTED", "Decompressed message larger than max", ServerRejected, "max_message_bytes"),
        ("RESOURCE_EXHAUSTED", "quota exceeded", Overloaded, "rate limit; ask again later"),
        ("NOT_FOUND", "Request for unknown model: 'x' has no available versions", Unavailable, "not loaded"),
        ("NOT_FOUND", "Request for unknown model: 'x' version 7 is not found", ServerRejected, "refused"),
        ("INVALID_ARGUMENT", "inference request batch-size must be <= 32", ServerRejected, "refused"),
    ],
)
def test_every_status_becomes_an_error_that_says_what_to_do(
    status: str, words: str, kind: type[AltrecoError], advice: str
) -> None:
    # Address and request id are the caller's: whatever they spell must not decide.
    error = from_triton(
        InferenceServerException(words, f"StatusCode.{status}"),
        "tls-handshake:8001",
        deadline_s=2.5,
        waited_s=1.3004,
        request_id="ssl-17",
        hint=" By proxy.",
    )
    assert error.status == status
    assert (" By proxy." in str(error)) == (kind is Unavailable)
    assert type(error) is kind
    for part in ("tls-handshake:8001", advice, "[request id: ssl-17]", words):
        assert part in str(error)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([|` -]*)(\w+)", line):
            path = [*path[: len(found[1]) // 3], found[2]]
            drawn[found[2]] = path[-2] if len(path) > 1 else "Exception"
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AltrecoError)]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds}


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(Unavailable, ConnectionError), (DeadlineExceeded, TimeoutError), (errors.InvalidImage, ValueError)],
)
def test_who_catches_pythons_own_kinds_catches_ours(kind: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(kind, builtin)


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AltrecoError)]
)
def test_every_error_survives_a_process_pool(kind: type[AltrecoError]) -> None:
    """And has a message that is one short line, whatever went into it."""
    error = kind("sea\x1b[2K\n" + "x" * 10_000)
    vars(error).update(tags=("sea",), status="UNAVAILABLE", index=3)
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
    assert str(error).startswith(r"sea\x1b[2K\nxxx")
    assert len(str(error)) <= 1000
