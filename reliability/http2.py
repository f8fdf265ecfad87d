"""HTTP/2 frames and gRPC messages built by hand (RFC 9113), for requests that no gRPC library would send."""

import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
STREAM = 1
INFER = "/inference.GRPCInferenceService/ModelInfer"
FRAME_BYTES = 16384
"""Largest frame that a server accepts by default."""
WINDOW_BYTES = 65535
"""Bytes of data that a client may send before the server allows more."""


def opening(*, window: int | None = None) -> bytes:
    """Build a client's first bytes; `window`: bytes of an answer that the server may send before the client reads."""
    setting = b"" if window is None else INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
    return PREFACE + _frame(SETTINGS, setting, stream=0)


def headers(*more: tuple[str, str]) -> bytes:
    """Build the headers of a ModelInfer call, and `more` of them."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", INFER),
        (":authority", "triton"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    ]
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)
    return _frame(HEADERS, block, flags=END_HEADERS)


def message(body: bytes, *, length: int | None = None, compressed: bool = False) -> bytes:
    """Build a gRPC message; `length` replaces the true length in its prefix, and `compressed` marks the body so."""
    return bytes([compressed]) + (len(body) if length is None else length).to_bytes(4, "big") + body


def data(body: bytes, *, end: bool = True) -> bytes:
    """Build data frames; `end`: the last one ends the stream."""
    parts = [body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES)] or [b""]
    flags = [0] * (len(parts) - 1) + [END_STREAM if end else 0]
    return b"".join(_frame(DATA, part, flags=flag) for part, flag in zip(parts, flags, strict=True))


def connect(url: str, *, timeout_s: float = 30.0) -> socket.socket:
    """Connect to host:port."""
    host, _, port = url.rpartition(":")
    return socket.create_connection((host, int(port)), timeout_s)


def _frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = STREAM) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _text(value: str) -> bytes:
    """Encode an HPACK string of up to 126 characters, without Huffman coding."""
    assert len(value) < 127
    return bytes([len(value)]) + value.encode("latin-1")
