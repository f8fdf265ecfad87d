"""HTTP/2 frames and gRPC messages written by hand (RFC 9113), for what no gRPC library would send."""

import socket
from collections.abc import Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
FRAME_BYTES = 16384
"""The longest that a server takes unless it says otherwise."""
HEAD_BYTES = 9
WINDOW_BYTES = 65535
"""That may be sent before the server allows more."""


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def opening(*, window: int | None = None) -> bytes:
    """What a client says first; `window`: bytes of an answer that the server may send before the client reads them."""
    setting = b"" if window is None else INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
    return PREFACE + frame(SETTINGS, setting)


def headers(path: str = INFER, *, stream: int = 1, more: Mapping[str, str] | None = None) -> bytes:
    """The head of a call, with `more` headers or other ones."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "triton",
        "content-type": "application/grpc",
        "te": "trailers",
        **(more or {}),
    }
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
    return frame(HEADERS, block, flags=END_HEADERS, stream=stream)


def message(body: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """gRPC's: a flag (1: compressed), the length (default: the true one), the bytes."""
    return bytes([flag]) + (len(body) if length is None else length).to_bytes(4, "big") + body


def data(body: bytes, *, stream: int = 1, end: bool = True) -> bytes:
    """In as many frames as it takes."""
    parts = [body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES)] or [b""]
    last = len(parts) - 1
    return b"".join(
        frame(DATA, part, flags=END_STREAM if end and number == last else 0, stream=stream)
        for number, part in enumerate(parts)
    )


def connect(url: str, *, timeout_s: float = 30.0) -> socket.socket:
    """A connection to host:port."""
    host, _, port = url.rpartition(":")
    return socket.create_connection((host, int(port)), timeout_s)


def what_came(connection: socket.socket) -> str:
    """How the server ended it: "trailers", "reset", "goaway", "closed", or "waits" after the connection's timeout."""
    received = bytearray()
    try:
        while not (ended := _ended(received)):
            part = connection.recv(65536)
            if not part:
                return "closed"
            received += part
    except TimeoutError:
        return "waits"
    except ConnectionError:  # it closed while something of ours was unread
        return "closed"
    return ended


def _ended(received: bytes | bytearray) -> str:
    """What the frames so far say of the end; "" while there is none."""
    at = 0
    while at + HEAD_BYTES <= len(received):
        length, kind, flags = int.from_bytes(received[at : at + 3], "big"), received[at + 3], received[at + 4]
        if kind == HEADERS and flags & END_STREAM:
            return "trailers"
        if kind in (RESET, GOAWAY):
            return "reset" if kind == RESET else "goaway"
        at += HEAD_BYTES + length
    return ""


def _text(value: str) -> bytes:
    """HPACK's string of up to 126 characters, without Huffman's code."""
    assert len(value) < 127
    return bytes([len(value)]) + value.encode("latin-1")
