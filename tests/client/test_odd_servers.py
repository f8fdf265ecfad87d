"""Servers that are broken, hostile, in the way or overloaded: typed errors, few attempts, and the user's own tags."""

import asyncio
import io
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Queue

import grpc
import pytest
from altreco_client import (
    AltrecoError,
    AsyncTagRecommender,
    Channel,
    ContractMismatch,
    Overloaded,
    Recommendation,
    ServerFailed,
    ServerRejected,
    Tag,
    TagRecommender,
    Unavailable,
    UnknownTag,
)
from altreco_client.__main__ import main
from PIL import Image
from tritonclient.grpc import service_pb2 as pb

from tests.client.odd_server import PICTURE, TAGS, WAIT_S, Odd, closed_port, honest, ranking, serving

HISTORY = {"sky": 1, "sea": 4}
DELAY_S = 0.2
Answer = Callable[[int, int], pb.ModelInferResponse]


@contextmanager
def far_away(url: str) -> Iterator[str]:
    """An address of the server from which all bytes take DELAY_S, as over a slow network."""
    host, port = url.split(":")
    started = Queue[tuple[int, Callable[[], object]]]()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await asyncio.sleep(DELAY_S)
                writer.write(data)
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        of_server, to_server = await asyncio.open_connection(host, int(port))
        with suppress(asyncio.CancelledError):  # the end of the test
            await asyncio.gather(forward(reader, to_server), forward(of_server, writer))

    async def listen() -> None:
        server, stop = await asyncio.start_server(connect, "127.0.0.1"), asyncio.Event()
        end = partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)
        started.put((server.sockets[0].getsockname()[1], end))
        async with server:
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(listen(),))
    thread.start()
    listening_at, end = started.get(timeout=WAIT_S)
    try:
        yield f"127.0.0.1:{listening_at}"
    finally:
        end()
        thread.join()


def test_a_slow_network_is_no_missing_server() -> None:
    channel = Channel(max_attempts=1)
    with (
        serving(Odd()) as url,
        far_away(url) as address,
        TagRecommender(address, channel=channel, deadline_s=WAIT_S) as recommender,
    ):
        assert recommender.recommend(PICTURE, HISTORY, k=1).tags


def lying(rows: int, k: int) -> pb.ModelInferResponse:
    return ranking([[b"0.9:7:sea"] * k] * rows)


def empty(rows: int, k: int) -> pb.ModelInferResponse:
    return pb.ModelInferResponse(model_name="tag_recommender", model_version="1")


@pytest.mark.parametrize("answer", [lying, empty])
def test_a_malformed_answer_is_a_server_error_that_the_fallback_covers(answer: Answer) -> None:
    with serving(Odd(answer=answer)) as url, TagRecommender(url) as recommender:
        with pytest.raises(ServerFailed, match="answer is malformed: expected"):
            recommender.recommend(PICTURE, HISTORY, 2)
        fallen = recommender.recommend(PICTURE, HISTORY, 1, fallback="history")
        assert fallen.tags == (Tag("sea", 1.0),)
        assert isinstance(fallen.fallback, ServerFailed)

    async def ask() -> Recommendation:
        async with AsyncTagRecommender(url) as recommender:
            return await recommender.recommend(PICTURE, HISTORY, 1, fallback="history")

    with serving(Odd(answer=answer)) as url:
        assert isinstance(asyncio.run(ask()).fallback, ServerFailed)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (("sea", "sea", "dog"), "each tag once"),
        (("sea", "sky\x1b[2K", "dog"), r"characters on one line"),
        (("sea", " sky", "dog"), "number 2, tag ' sky': expected 'sky'"),
        (("sea", "", "dog"), r"characters on one line"),
    ],
)
def test_labels_that_are_no_vocabulary_are_a_mistake_that_no_fallback_hides(tags: tuple[str, ...], words: str) -> None:
    with (
        serving(Odd(tags=tags)) as url,
        TagRecommender(url) as recommender,
        pytest.raises(ContractMismatch, match=f"labels of release 1 are no vocabulary: .*{words}"),
    ):
        recommender.recommend(PICTURE, HISTORY, 2, fallback="history")


def test_a_vocabulary_that_changes_each_time_is_given_up() -> None:
    odd = Odd()

    def other(rows: int, k: int) -> pb.ModelInferResponse:
        return honest(rows, k, tuple(f"{tag}{len(odd.asked)}" for tag in TAGS))

    odd.answer = other
    with serving(odd) as url, TagRecommender(url) as recommender:
        for images in ([PICTURE], [PICTURE] * 2):
            with pytest.raises(ContractMismatch, match="changed 5 times in a row"):
                recommender.recommend_batch(images, None, 2)


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", Overloaded),
        (grpc.StatusCode.UNAVAILABLE, "upstream connect error. reset reason: overflow", Overloaded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate limit", Overloaded),
        (grpc.StatusCode.UNAUTHENTICATED, "no key", ServerRejected),
        (grpc.StatusCode.PERMISSION_DENIED, "not you", ServerRejected),
        (grpc.StatusCode.UNIMPLEMENTED, "no such method", ServerRejected),
        (grpc.StatusCode.INTERNAL, "broken", ServerFailed),
    ],
)
def test_a_server_that_has_too_much_to_do_or_says_no_is_asked_once(
    status: grpc.StatusCode, words: str, kind: type[AltrecoError]
) -> None:
    odd = Odd()
    with serving(odd) as url, TagRecommender(url) as recommender:
        recommender.recommend(PICTURE, None, 1)
        odd.abort, odd.asked = (status, words), []
        with pytest.raises(kind, match=words) as raised:
            recommender.recommend(PICTURE, None, 1)
    assert odd.asked == [(1, 1)]
    assert raised.value.status == status.name  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND])
def test_a_refusal_that_another_vocabulary_may_explain_learns_it_once(status: grpc.StatusCode) -> None:
    odd = Odd()
    with serving(odd) as url, TagRecommender(url) as recommender:
        recommender.recommend(PICTURE, None, 1)
        odd.abort, odd.asked = (status, "other dimensions"), []
        with pytest.raises(ServerRejected):
            recommender.recommend(PICTURE, None, 1)
    assert odd.asked == [(1, 1), (1, len(TAGS))]


def test_a_batch_never_asks_for_all_labels_of_all_rows() -> None:
    odd = Odd()
    with serving(odd) as url, TagRecommender(url, vocabulary_check_s=0) as recommender:
        recommender.recommend_batch([PICTURE] * 8, None, 2)
        assert odd.asked == [(1, 4), (1, 4), (8, 2)]  # the vocabulary, the check of it, and the batch
        odd.asked = []
        recommender.recommend(PICTURE, None, 2)
        assert odd.asked == [(1, 4)]  # one row checks the vocabulary itself


def test_a_suggestion_takes_a_moment_whatever_the_vocabulary() -> None:
    tags = tuple(f"{'aeiou'[i % 5]}{'lnrst' * 3}{i:05d}" for i in range(30_000))
    with serving(Odd(tags=tags)) as url, TagRecommender(url, deadline_s=WAIT_S) as recommender:
        recommender.recommend(PICTURE, None, 1)
        started = time.thread_time()
        with pytest.raises(UnknownTag, match=r"did you mean alnrstlnrstlnrst0001"):
            recommender.recommend(PICTURE, {"alnrstlnrstlnrst0001": 1})
        assert time.thread_time() - started < 0.2


def test_nothing_a_server_says_reaches_terminal_or_log_raw(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "altreco_client")
    words = "down\x1b]0;owned\x07\nerror: forged\u202e"
    odd = Odd(abort=(grpc.StatusCode.INTERNAL, words))
    with serving(odd) as url:
        assert main(["vocabulary", "--url", url]) == 1
        main(["doctor", "--url", url])
        odd.abort = (grpc.StatusCode.UNAVAILABLE, words)  # which is logged before it is tried again
        with TagRecommender(url, channel=Channel(max_attempts=2)) as recommender:
            try:
                recommender.recommend(PICTURE)
            except Unavailable:
                logging.getLogger("altreco_client").exception("with its traceback")
    out, err = capsys.readouterr()
    for text in (out, err, caplog.text):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert "\nerror: forged" not in text
    assert r"down\x1b]0;owned\x07\nerror: forged\u202e" in err
    assert r"triton\x1b[2K 2.51.0\n" in out


def test_the_command_line_goes_on_after_a_bad_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (300, 300)).save("photo.png")
    Path("bad\x1b[2K.png").write_bytes(b"no image")
    with serving(Odd()) as url:
        assert main(["recommend", "bad\x1b[2K.png", "photo.png", "-k", "1", "--url", url]) == 1
    out, err = capsys.readouterr()
    assert out == "photo.png:\n1.000  sea\n"
    assert err.startswith(r"error: cannot read an image from bad\x1b[2K.png")


def test_letters_that_the_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    with serving(Odd(tags=("sea", "caf\u00e9"))) as url:
        assert main(["vocabulary", "--url", url]) == 0
    terminal.seek(0)
    assert terminal.read() == "sea\ncaf\\xe9\n"


def test_a_server_on_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(Odd(), "[::1]:0") as url:
        for target in (url, f"ipv6:{url}"):
            with TagRecommender(target) as recommender:
                assert recommender.recommend(PICTURE, None, 1).tags


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_is_used_and_named_only_if_asked_for(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, f"http://{closed_port()}")
    with serving(Odd()) as url:
        with TagRecommender(url) as recommender:
            assert recommender.recommend(PICTURE, None, 1).tags
        through = Channel(use_proxy=True, max_attempts=1)
        with (
            TagRecommender(url, channel=through) as recommender,
            pytest.raises(Unavailable, match=f"asked through the proxy in {variable}"),
        ):
            recommender.recommend(PICTURE)
    with (
        TagRecommender(closed_port(), channel=Channel(max_attempts=1)) as recommender,
        pytest.raises(Unavailable, match=f"proxy in {variable} is not used; .* use_proxy=True in Channel"),
    ):
        recommender.recommend(PICTURE)
