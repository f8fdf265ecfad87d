"""A headless service as in Kubernetes: a DNS name with the address of each pod that is not terminating."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

NAME = "tag-recommender.altreco.svc"
HEADER = struct.Struct(">HHHHHH")
QUESTION = struct.Struct(">HH")
RECORD = struct.Struct(">HHHIH")
AUTHORITATIVE_ANSWER = 0x8580
TYPE_A, CLASS_IN = 1, 1
TO_THE_NAME = 0xC000 | HEADER.size  # a pointer to the name in the question


@dataclass
class Headless:
    """The name server; `addresses` may change at any time, so its answers must not be cached."""

    port: int
    addresses: list[str] = field(default_factory=list)

    def url(self, grpc_port: int) -> str:
        """Return the gRPC address of the service; a client resolves it with this name server only."""
        return f"dns://127.0.0.1:{self.port}/{NAME}:{grpc_port}"


@contextmanager
def headless() -> Iterator[Headless]:
    """Run a name server that answers for every name, on a free port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        service = Headless(server.getsockname()[1])
        stop = threading.Event()

        def answer() -> None:
            while True:
                query, client = server.recvfrom(512)
                if stop.is_set():
                    return
                server.sendto(_answer(query, service.addresses), client)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            stop.set()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
                waker.sendto(b"", server.getsockname())
            thread.join()


def _answer(query: bytes, addresses: list[str]) -> bytes:
    """Build an answer (RFC 1035): the question, then an A record per address; no records of other types."""
    end = query.index(0, HEADER.size) + 1 + QUESTION.size
    kind, _ = QUESTION.unpack_from(query, end - QUESTION.size)
    found = addresses if kind == TYPE_A else []
    head = HEADER.pack(HEADER.unpack_from(query)[0], AUTHORITATIVE_ANSWER, 1, len(found), 0, 0)
    records = [RECORD.pack(TO_THE_NAME, TYPE_A, CLASS_IN, 0, 4) + socket.inet_aton(address) for address in found]
    return head + query[HEADER.size : end] + b"".join(records)
