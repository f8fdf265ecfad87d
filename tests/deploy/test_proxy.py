"""Whoever has a proxy in the environment still reaches servers on loopback."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.access import PLAIN
from measure.server import read
from tests.client.odd_server import Odd, closed_port, serving


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{closed_port()}")


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"nv_inference_count 1\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def metrics_url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


def test_the_tools_grpc_does_not_go_through_a_proxy() -> None:
    with serving(Odd()) as url, PLAIN.connect(url) as client:
        assert client.is_model_ready("tag_recommender")


def test_metrics_are_not_read_through_a_proxy(metrics_url: str) -> None:
    assert read(metrics_url) == "nv_inference_count 1\n"
