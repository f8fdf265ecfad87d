"""Malformed requests that no tritonserver 2.51 survives, each against a server of its own. All are HTTP's."""

import gzip
import json
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

from altreco_client import contract

from deploy.local import Server
from measure.server import footprint
from reliability.http2 import connect
from reliability.outcome import Check, Outcome
from reliability.questions import questions
from reliability.servers import exit_code, serving

PATH = f"/v2/models/{contract.TAG_RECOMMENDER.name}/infer"
ENDS_S = 30.0
LEAKS, UNPACKED_BYTES = 10, 16 * 1024**2


def known_crashes(repository: Path) -> Outcome:
    """How each ends the server; a check is missed when one no longer does: then the list is too long."""
    ends = {name: _ended(repository, body()) for name, body in KNOWN.items()}
    leaked = _leaked_mib(repository)
    return Outcome(
        title="Requests that an old Triton does not survive",
        did="Each of these HTTP requests was sent once to a local Triton 2.51 of its own, which had answered until "
        "then; the last one many times. They are kept out of the malformed requests above; none like them was found "
        "over gRPC. NVIDIA has published several such vulnerabilities and fixed them in later releases. Against them "
        "stand the image of 26.05 or later, HTTP on the pod's own loopback alone, and a liveness probe.",
        figures={
            **ends,
            f"{LEAKS} gzip bodies of {len(_packed()) // 1024} KiB, {UNPACKED_BYTES // 1024**2} MiB of zeros each": (
                f"memory grew by {leaked[0]:.0f} MiB, and by {leaked[1]:.0f} MiB with as many more"
            ),
        },
        checks=[
            *(Check(f"{name} ends the server", end.startswith("signal ")) for name, end in ends.items()),
            Check("what was decompressed is never given back", min(leaked) > LEAKS * UNPACKED_BYTES / 1024**2 / 2),
        ],
    )


def _ended(repository: Path, body: bytes) -> str:
    with serving(repository) as server:
        questions(server.grpc_url, 1)
        _post(server, body)
        try:
            return f"signal {-exit_code(server, seconds=ENDS_S)} ends the server"
        except TimeoutError:
            return "none"


def _leaked_mib(repository: Path) -> list[float]:
    """Of two rounds."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: triton\r\nContent-Encoding: gzip\r\nContent-Length: {len(_packed())}\r\n\r\n"
    with serving(repository) as server:
        held = [footprint(server.pid)]
        for _ in range(2):
            for _ in range(LEAKS):
                _post(server, head.encode() + _packed())
            held.append(footprint(server.pid))
    return [after.grown_mib(before) for before, after in pairwise(held)]


@cache
def _packed() -> bytes:
    return gzip.compress(bytes(UNPACKED_BYTES), 1)


def _tensor(shape: list[int], data: str) -> bytes:
    tensor = json.dumps({"name": contract.USER_HISTORY.name, "datatype": contract.USER_HISTORY.dtype, "shape": shape})
    return f'{{"inputs": [{tensor[:-1]}, "data": {data}}}]}}'.encode()


def _whole(body: bytes) -> bytes:
    return f"POST {PATH} HTTP/1.1\r\nHost: triton\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _chunked(chunks: int) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: triton\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"1\r\nA\r\n" * chunks + b"0\r\n\r\n"


KNOWN: Mapping[str, Callable[[], bytes]] = {
    "100 bytes of JSON whose shape asks for 4 TB": lambda: _whole(_tensor([1, 10**12], "[1]")),
    "JSON data nested 100,000 deep": lambda: _whole(_tensor([1, 1], "[" * 100_000 + "]" * 100_000)),
    "600,000 chunks of one byte": lambda: _chunked(600_000),
}
"""What it is to what is sent: an allocation without a limit, and twice a stack without one."""


def _post(server: Server, body: bytes) -> None:
    with connect(server.http_url.removeprefix("http://")) as connection:
        try:
            connection.sendall(body)
            connection.recv(1)
        except ConnectionError:  # it is gone already
            return
