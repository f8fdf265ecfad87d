"""deploy/proxy/nginx.conf in a real nginx, in front of a real Triton."""

import gzip
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from altreco_client import TagRecommender

from reliability import http2
from reliability.raw_requests import small_request
from tests.end_to_end.conftest import Served
from tests.end_to_end.peak import forget_peak, peak_mib
from tests.servers import own_ports
from tests.tools import require

CONFIG = Path(__file__).parents[2] / "deploy" / "proxy" / "nginx.conf"
RESET, GOAWAY = 3, 7
BOMB_BYTES = 48 * 2**20
"""Zeros, which fit into HTTP/2's initial window of 64 KiB when they are compressed."""


@contextmanager
def nginx(triton: str, folder: Path) -> Iterator[str]:
    """nginx in front of this server; its address."""
    here = f"127.0.0.1:{next(own_ports())}"
    config = CONFIG.read_text().replace("/tmp/", f"{folder}/")
    for written, now in (("listen 8001", f"listen {here}"), ("tag-recommender.altreco:8001", triton)):
        assert config.count(written) == 1
        config = config.replace(written, now)
    (folder / "nginx.conf").write_text(config)
    command = [require("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with subprocess.Popen(command) as process:
        try:
            with grpc.insecure_channel(here) as channel:
                grpc.channel_ready_future(channel).result(timeout=20)
            yield here
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def proxy(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nginx(served.server.grpc_url, tmp_path_factory.mktemp("nginx")) as address:
        yield address


def send_bomb(url: str, *headers: tuple[str, str]) -> None:
    """Send a message of zeros, compressed, and wait for the end of the call or of the connection."""
    message = b"\x3a" + varint(BOMB_BYTES) + bytes(BOMB_BYTES)  # raw_input_contents
    body = http2.message(gzip.compress(message), compressed=True)
    assert len(body) < http2.WINDOW_BYTES
    with http2.connect(url) as connection:
        connection.sendall(http2.opening() + http2.headers(*headers) + http2.data(body))
        received = b""
        while not kinds(received) & {http2.HEADERS, RESET, GOAWAY} and (data := connection.recv(65536)):
            received += data


def kinds(data: bytes) -> set[int]:
    """The kinds of the frames in an answer."""
    found, place = set(), 0
    while place + 9 <= len(data):
        found.add(data[place + 3])
        place += 9 + int.from_bytes(data[place : place + 3], "big")
    return found


def varint(value: int) -> bytes:
    """The number as protobuf writes it."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def status(url: str, message: bytes, compression: grpc.Compression) -> grpc.StatusCode:
    """What a call that is refused ends with."""
    with grpc.insecure_channel(url) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(http2.INFER)(message, timeout=20, compression=compression)
    return refused.value.code()


def test_answers_are_the_same_through_the_proxy(proxy: str, recommender: TagRecommender) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    with TagRecommender(proxy, deadline_s=30) as through:
        assert through.recommend(picture, {"tag-1": 2}).tags == recommender.recommend(picture, {"tag-1": 2}).tags


@pytest.mark.parametrize("headers", [["gzip"], ["identity", "gzip"], ["deflate"], []], ids=", then ".join)
def test_no_compressed_message_is_unpacked_behind_the_proxy(served: Served, proxy: str, headers: list[str]) -> None:
    before = forget_peak(served.server.pid)
    send_bomb(proxy, *(("grpc-encoding", encoding) for encoding in headers))
    assert peak_mib(served.server.pid) < before + BOMB_BYTES / 2**20 / 2


def test_without_the_proxy_the_server_unpacks_it(served: Served) -> None:
    before = forget_peak(served.server.pid)
    send_bomb(served.server.grpc_url, ("grpc-encoding", "gzip"))
    assert peak_mib(served.server.pid) > before + BOMB_BYTES / 2**20


def test_callers_learn_why(served: Served, proxy: str, tmp_path: Path) -> None:
    request, plain = small_request(served.repository), grpc.Compression.NoCompression
    assert status(proxy, request, grpc.Compression.Gzip) == grpc.StatusCode.UNIMPLEMENTED
    assert status(proxy, bytes(9 * 2**20), plain) == grpc.StatusCode.RESOURCE_EXHAUSTED
    with nginx("127.0.0.1:9", tmp_path) as alone:
        assert status(alone, request, plain) == grpc.StatusCode.UNAVAILABLE
