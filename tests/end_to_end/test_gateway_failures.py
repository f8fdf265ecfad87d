"""The gateway over servers that are slow, gone or odd, callers that are slow, and a gateway that cannot start."""

import http.client
import json
import socket
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import quote, urlsplit

import grpc
import pytest
from altreco_client import AsyncTagRecommender, Channel, TagHistory
from altreco_client.cli.main import main
from altreco_client.gateway.app import create_app
from altreco_client.gateway.limits import Limits, Room
from altreco_client.gateway.routes import MOST_RELEASES, Gateway
from altreco_client.gateway.serve import Protocol
from altreco_client.histories import Histories

from measure.waiting import wait_until
from reliability.servers import kill
from tests import golden
from tests.client import odd_server
from tests.end_to_end.faults import WAIT_S, closed_port, gone
from tests.end_to_end.gateway import PHOTO, failed, over, running, tags
from tests.end_to_end.http_service import ask
from tests.kept import Kept
from tests.servers import own_ports, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_the_gateway_sends_the_golden_bytes() -> None:
    """The server of the golden vectors answers nothing else."""
    vectors = golden.read()
    with golden.replaying(vectors) as url, running(over(url, deadline_s=30)) as address:
        query = f"?k={golden.K}&history={quote(json.dumps(golden.HISTORY))}"
        for case in vectors.cases:
            answer = tags(address, query, {"X-Request-Id": golden.ID}, case.file.read_bytes())
            assert [(tag["name"], tag["score"]) for tag in answer.json["tags"]] == list(case.tags), answer.text
            assert answer.json["unknown"] == ["zeppelin"]


def test_releases_that_are_made_up_make_no_series_without_end() -> None:
    shared = Gateway(AsyncTagRecommender(closed_port()), None, 5.0, Room(Limits()))
    counted = [shared.counted(str(release)) for release in range(MOST_RELEASES + 50)]
    assert counted == [*map(str, range(MOST_RELEASES)), *["other"] * 50]
    assert (shared.counted("0"), shared.counted(None)) == ("0", None)


def test_where_nobody_answers_the_gateway_says_so() -> None:
    with running(over(closed_port(), channel=Channel(max_attempts=1))) as address:
        answer = tags(address)
        assert "does not answer" in failed(answer, 503, "Unavailable")
        assert answer.headers["retry-after"] == "1"
        health = ask(address, "/healthz", method="GET")
        assert (health.status, health.json) == (503, {"ready": False})
        words = failed(tags(address, headers={"X-User": "ana"}), 422, "InvalidRequest")
        assert "--store" in words


def test_a_database_that_does_not_answer_is_named_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, odd_server.serving(odd_server.Odd()) as url:
        store = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/photos"
        with Histories(store) as users, running(create_app(AsyncTagRecommender(url), users)) as address:
            answer = tags(address, headers={"X-User": "ana", "X-Request-Timeout": "4"})
            assert "the database did not answer within 2 s" in failed(answer, 503, "HistoriesUnavailable")


@pytest.mark.parametrize(
    ("code", "words", "status", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", 429, "Overloaded"),
        (grpc.StatusCode.INTERNAL, "onnx runtime error", 502, "ServerFailed"),
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape", 502, "ServerRejected"),
    ],
)
def test_the_status_follows_tritons(code: grpc.StatusCode, words: str, status: int, error: str) -> None:
    odd = odd_server.Odd(abort=(code, words))
    with odd_server.serving(odd) as url, running(over(url)) as address:
        answer = tags(address, "?k=2")
        assert words in failed(answer, status, error)
        assert answer.headers.get("retry-after") == ("1" if status == 429 else None)


def test_the_callers_trace_goes_on_to_triton() -> None:
    seen: list[str] = []

    class Noting(odd_server.Odd):
        def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
            seen.extend(value for name, value in context.invocation_metadata() if name == "traceparent")
            return super().ModelInfer(request, context)

    with odd_server.serving(Noting()) as url, running(over(url, opentelemetry=True)) as address:
        tags(address, "?k=2", {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    assert seen
    assert all(value.startswith(f"00-{TRACE}-") for value in seen)


class Broken:
    """Histories with a fault of their own."""

    def __getitem__(self, user: str) -> TagHistory:
        raise RuntimeError("s3cret")


def test_a_fault_of_the_gateway_is_a_500_without_its_words() -> None:
    with running(create_app(AsyncTagRecommender(closed_port()), Broken())) as address:
        words = failed(tags(address, headers={"X-User": "ana"}), 500, "InternalError")
    assert words == "the gateway failed: look at its log"


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"


def test_a_caller_that_offers_http_2_is_answered_over_one_connection() -> None:
    """Java's HttpClient does, with every picture."""
    head = b"POST /v1/tags?k=2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(PHOTO)
    with (
        odd_server.serving(odd_server.Odd()) as url,
        running(over(url)) as address,
        connect(address, b"") as client,
        client.makefile("rb") as answers,
    ):
        for _ in range(2):
            client.sendall(head + OFFER + b"\r\n" + PHOTO)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            length = int(http.client.parse_headers(answers)["Content-Length"])
            assert json.loads(answers.read(length))["release"] == "1"


def test_a_trailer_does_not_pass_for_a_header() -> None:
    head = b"POST /v1/tags HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    body = b"3\r\nGIF\r\n0\r\nX-User: ana\r\n\r\n"
    with running(over(closed_port())) as address, connect(address, head + body) as client:
        assert b"InvalidImage" in client.makefile("rb").read()


def test_a_head_without_end_is_refused() -> None:
    begin = b"GET /healthz HTTP/1.1\r\nX-User: "
    with (
        running(over(closed_port())) as address,
        connect(address, begin) as client,
        pytest.raises(ConnectionError),
    ):
        client.sendall(b"a" * 64 * 1024**2)


def connect(address: str, begin: bytes) -> socket.socket:
    client = socket.create_connection((urlsplit(address).hostname or "", urlsplit(address).port or 0), timeout=WAIT_S)
    client.sendall(begin)
    return client


HALF = b"POST /v1/tags HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf of it"


def test_a_full_gateway_refuses_at_once_and_then_has_room_again() -> None:
    app = over(closed_port(), Limits(requests=1))
    with running(app) as address:
        with connect(address, HALF):
            wait_until(lambda: app.state.gateway.room.taken == 1, "the first request", seconds=WAIT_S)
            answer = tags(address)
            assert "ask again later" in failed(answer, 429, "Overloaded")
            assert answer.headers["retry-after"] == "1"
        wait_until(lambda: app.state.gateway.room.taken == 0, "room", seconds=WAIT_S)
        failed(tags(address, body=b"no picture"), 422, "InvalidImage")


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    with running(over(closed_port(), Limits(body_s=0.2))) as address, connect(address, HALF) as client:
        said = client.makefile("rb").read()
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"BodyTooSlow" in said


@pytest.mark.parametrize("begin", [b"", b"GET /healthz HT"])
@pytest.mark.parametrize("before", [b"", b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_headers_that_do_not_arrive_are_given_up(monkeypatch: pytest.MonkeyPatch, before: bytes, begin: bytes) -> None:
    if not before:
        monkeypatch.setattr(Protocol, "head_s", 0.2)
    with running(over(closed_port()), timeout_keep_alive=1) as address, connect(address, before) as client:
        if before:
            assert client.recv(65_536).startswith(b"HTTP/1.1 404 ")
            monkeypatch.setattr(Protocol, "head_s", 0.2)
        client.sendall(begin)
        client.makefile("rb").read()  # to the end: the gateway closes the connection


def test_few_pictures_are_decoded_at_once() -> None:
    with odd_server.serving(odd_server.Odd()) as url, running(over(url)) as address:
        clients = [threading.Thread(target=tags, args=(address, "?k=2")) for _ in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        decoding = [thread for thread in threading.enumerate() if thread.name.startswith("decoding")]
        assert 1 <= len(decoding) <= Limits().decoded_at_once


@pytest.mark.parametrize(
    ("missing", "options", "words"),
    [
        ("fastapi", [], "pip install 'altreco-client[gateway]'"),
        ("sqlalchemy", ["--store", "sqlite://"], "pip install 'altreco-client[gateway,histories]'"),
    ],
)
def test_a_missing_extra_is_named(missing: str, options: list[str], words: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from altreco_client.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "gateway", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert words in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--store", "mysql://host/a"], "expected sqlite:///FILE"),
        (["--store", "sqlite:///nowhere/typo.db"], "there are no histories in 'nowhere/typo.db'"),
        (["--port", "99999"], "--port is 99999: expected 0 to 65,535"),
        (["--url", "localhost"], "expected host:port"),
        (["--ca", "/nowhere.pem"], "cannot read /nowhere.pem"),
    ],
)
def test_a_gateway_that_cannot_start_says_why(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gateway", *options]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_server_is_unavailable_until_another_is_there(kept: Kept) -> None:
    repository, at = kept.releases(1), next(own_ports())
    with serving(repository, grpc_port=at) as first, running(over(first.grpc_url)) as address:
        assert tags(address).status == 200
        kill(first)
        wait_until(lambda: gone(first), "the end of the first", seconds=WAIT_S)
        failed(tags(address, headers={"X-Request-Timeout": "10"}), 503, "Unavailable")
        with serving(repository, grpc_port=at):
            wait_until(lambda: ask(address, "/healthz", method="GET").status == 200, "the other", seconds=WAIT_S)
            assert tags(address).status == 200
