"""A slow server: calls end at their deadline, clients do not flood it, and users get their own tags."""

import asyncio
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
import tritonclient.grpc as triton
from altreco_client import (
    AsyncTagRecommender,
    CallReport,
    Channel,
    DeadlineExceeded,
    InvalidHistory,
    InvalidImage,
    InvalidRequest,
    Overloaded,
    Recommendation,
    ServerError,
    Tag,
    TagHistory,
    Unavailable,
)
from altreco_client.call.in_flight import START, WAIT_SHARE

from deploy.local import Server
from measure.waiting import wait_until
from reliability.slow_model import SlowModel, slow_repository
from tests.end_to_end.conftest import Served
from tests.end_to_end.faults import (
    HISTORY,
    WAIT_S,
    Ask,
    asking,
    closed_port,
    picture,
    within,
)
from tests.servers import serving

both = pytest.mark.parametrize("kind", ["sync", "asyncio"])
QUEUE_S = 4.0
"""Timeout of the impatient server's queue, longer than a busy machine keeps a thread waiting."""
OWN = (Tag("tag-1", 1.0), Tag("tag-2", 0.5))


@pytest.fixture(scope="module")
def slow(served: Served, tmp_path_factory: pytest.TempPathFactory) -> SlowModel:
    return slow_repository(served.repository, tmp_path_factory.mktemp("deadlines") / "slow")


@pytest.fixture(scope="module")
def server(slow: SlowModel) -> Iterator[Server]:
    with serving(slow.repository) as server:
        yield server


@pytest.fixture(scope="module")
def impatient(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SlowModel, Server]]:
    """A server whose queue drops a request after QUEUE_S."""
    folder = tmp_path_factory.mktemp("impatient") / "slow"
    model = slow_repository(served.repository, folder, queue_timeout_s=QUEUE_S)
    with serving(model.repository) as server:
        yield model, server


@contextmanager
def blocked(model: SlowModel, ask: Ask) -> Iterator[Future[Recommendation]]:
    """The model works on a request, and on nothing else before the block ends."""
    ask(picture(), HISTORY, request_id="first", deadline_s=WAIT_S)  # learns the vocabulary
    model.take(WAIT_S)
    with ThreadPoolExecutor(1) as pool:
        try:
            blocker = pool.submit(ask, picture(), HISTORY, request_id="blocker", deadline_s=WAIT_S)
            wait_until(lambda: model.executed()[-1] == "blocker")
            yield blocker
        finally:
            model.take(0)


@both
def test_a_call_ends_at_its_own_deadline_or_the_clients(slow: SlowModel, server: Server, kind: str) -> None:
    with asking(kind, server.grpc_url, deadline_s=0.3) as ask, blocked(slow, ask):
        with within(0.3), pytest.raises(DeadlineExceeded, match=r"0\.3 s"):
            ask(picture(), HISTORY)
        with within(0.1), pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
            ask(picture(), HISTORY, deadline_s=0.1)
        slow.take(0.5)
        assert ask(picture(), HISTORY, deadline_s=WAIT_S).tags


@both
def test_the_first_call_of_all_ends_at_its_deadline(slow: SlowModel, server: Server, kind: str) -> None:
    """The one that learns the vocabulary, and those that wait for it to do so."""
    with (
        asking("sync", server.grpc_url) as other,
        blocked(slow, other),
        asking(kind, server.grpc_url, deadline_s=0.4) as ask,
        ThreadPoolExecutor(4) as pool,
        within(0.4),
    ):
        for call in [pool.submit(ask, picture(), HISTORY) for _ in range(4)]:
            assert isinstance(call.exception(), DeadlineExceeded)


@both
def test_a_server_that_is_too_slow_is_not_flooded(slow: SlowModel, server: Server, kind: str) -> None:
    """What the limit of requests in flight lets through ends at its deadline; the rest is refused after a quarter."""
    requests, deadline_s = 40, 10.0
    images = [picture(i) for i in range(requests)]
    reports: list[CallReport] = []
    with asking(kind, server.grpc_url, on_call=reports.append) as ask, ThreadPoolExecutor(requests) as pool:
        with blocked(slow, ask):
            started, reports[:] = len(slow.executed()), []
            calls = [pool.submit(ask, image, HISTORY, deadline_s=deadline_s) for image in images]
            errors = Counter(type(call.exception()) for call in calls)
        assert errors == {DeadlineExceeded: START - 1, Overloaded: requests - START + 1}  # one slot is the blocker's
        refused = [report for report in reports if isinstance(report.error, Overloaded)]
        assert all(WAIT_SHARE * deadline_s <= report.waited_s < report.duration_s for report in refused)
        assert {report.in_flight_limit for report in refused} == {START}
        assert "too much to do: this client has 16 requests in flight" in str(refused[0].error)
        assert ask(picture(), HISTORY, request_id=f"after-{kind}", deadline_s=WAIT_S).tags
    assert len(slow.executed()) - started == START  # 15 for nobody, and the one after them
    assert reports[-1].error is None
    assert reports[-1].in_flight_limit < START


@both
def test_a_burst_over_the_limit_waits_for_its_turn(slow: SlowModel, server: Server, kind: str) -> None:
    requests = 3 * START
    with asking(kind, server.grpc_url, deadline_s=WAIT_S) as ask, ThreadPoolExecutor(requests) as pool:
        slow.take(0.02)
        answers = [call.result() for call in [pool.submit(ask, picture(i), HISTORY) for i in range(requests)]]
    assert all(answer.tags for answer in answers)


@both
def test_a_call_behind_too_many_others_is_refused_with_its_picture_unread(
    slow: SlowModel, server: Server, kind: str
) -> None:
    """With a limit of 1 and answers after 0.5 s, those that wait take longer than a quarter of 1 s."""
    reports: list[CallReport] = []
    with (
        asking(kind, server.grpc_url, channel=Channel(max_in_flight=1), on_call=reports.append) as ask,
        ThreadPoolExecutor(6) as pool,
    ):
        slow.take(0.5)
        ask(picture(), HISTORY, deadline_s=WAIT_S)  # from which the client knows how long an answer takes
        slow.take(WAIT_S)
        waiting = [pool.submit(ask, picture(i), HISTORY, deadline_s=4 * WAIT_S) for i in range(6)]

        def refused() -> list[CallReport]:
            with pytest.raises((InvalidImage, Overloaded)):
                ask(b"not a picture", HISTORY, deadline_s=1.0)
            return [report for report in reports if isinstance(report.error, Overloaded)]

        try:
            wait_until(lambda: bool(refused()), "a refusal", seconds=WAIT_S / 2)
        finally:
            slow.take(0)
        assert all(call.result().tags for call in waiting)
        with pytest.raises(InvalidImage):
            ask(b"not a picture", HISTORY, deadline_s=1.0)
    report = next(report for report in reports if isinstance(report.error, Overloaded))
    assert "those that wait for one of them did not get it within 0.25 s" in str(report.error)
    assert (report.waited_s, report.in_flight_limit) == (0.25, 1)


@both
def test_a_request_that_the_servers_queue_drops_is_late_and_not_asked_again(
    impatient: tuple[SlowModel, Server], kind: str
) -> None:
    model, server = impatient
    with asking(kind, server.grpc_url) as ask:
        with ThreadPoolExecutor(1) as pool, blocked(model, ask):
            dropped = pool.submit(ask, picture(1), HISTORY, request_id="dropped", deadline_s=WAIT_S)
            wait_until(lambda: pending(server) == 1)
            time.sleep(QUEUE_S + 0.1)  # by the queue's own clock its time is over now, which nothing else tells
            model.take(0)
            with pytest.raises(DeadlineExceeded, match="Request timeout expired"):
                dropped.result()
        assert "dropped" not in model.executed()


def test_a_cancelled_task_cancels_its_request(slow: SlowModel, server: Server) -> None:
    async def main() -> None:
        async with AsyncTagRecommender(server.grpc_url, deadline_s=WAIT_S) as recommender:
            before = classified(server)
            await recommender.recommend(picture(), HISTORY)  # and one request for the vocabulary
            slow.take(WAIT_S)
            task = asyncio.create_task(recommender.recommend(picture(), HISTORY, request_id="cancelled"))
            await asyncio.to_thread(wait_until, lambda: slow.executed()[-1] == "cancelled")
            log_verbosely(server, 1)
            task.cancel()
            with within(0), pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(wait_until, lambda: "Issuing cancellation" in server.log_path.read_text())
            log_verbosely(server, 0)
            slow.take(0)
            assert (await recommender.recommend(picture(), HISTORY)).tags
            # What was being encoded is finished, but goes no further. Triton counts a request after its answer.
            await asyncio.to_thread(wait_until, lambda: classified(server) >= before + 3)
            assert classified(server) == before + 3

    asyncio.run(main())


def test_256_requests_under_way_on_one_thread(slow: SlowModel, server: Server) -> None:
    requests = 256

    async def main() -> None:
        async with AsyncTagRecommender(
            server.grpc_url, deadline_s=4 * WAIT_S, channel=Channel(max_in_flight=None)
        ) as recommender:
            images = [picture(i) for i in range(requests)]
            await recommender.recommend(images[0], HISTORY)
            python, all_of_them = threading.active_count(), psutil.Process().num_threads()
            executed = len(slow.executed())
            slow.take(WAIT_S)
            calls = asyncio.gather(*(recommender.recommend(image, HISTORY) for image in images))
            async with asyncio.timeout(WAIT_S):
                while pending(server) + len(slow.executed()) - executed < requests:
                    await asyncio.sleep(0.01)
            assert threading.active_count() == python
            assert psutil.Process().num_threads() <= all_of_them + requests // 8  # gRPC's own
            slow.take(0)
            assert {len(answer.tags) for answer in await calls} == {5}

    asyncio.run(main())


@both
def test_retries_end_with_the_deadline(kind: str) -> None:
    channel = Channel(max_attempts=1000, backoff_s=0.01, max_backoff_s=0.05)
    ended = pytest.raises((Unavailable, DeadlineExceeded))  # the last attempt may have no time left
    with asking(kind, closed_port(), deadline_s=0.5, channel=channel) as ask, within(0.5), ended:
        ask(picture(), HISTORY)


@both
def test_own_tags_in_place_of_an_answer(slow: SlowModel, server: Server, kind: str) -> None:
    with asking(kind, closed_port(), deadline_s=WAIT_S) as ask:
        assert_own_tags(ask(picture(), HISTORY, fallback="history"), Unavailable)
        assert ask(picture(), None, fallback="history").tags == ()
    with asking(kind, server.grpc_url, deadline_s=0.3) as ask:
        with blocked(slow, ask), within(0.3):
            assert_own_tags(ask(picture(), TagHistory(HISTORY), fallback="history"), DeadlineExceeded)
        answer = ask(picture(), HISTORY, fallback="history", deadline_s=WAIT_S)
        assert answer.fallback is None
        assert answer.model_version == "1"


def assert_own_tags(answer: Recommendation, error: type[ServerError]) -> None:
    assert answer.tags == OWN
    assert answer.model_version is None
    assert isinstance(answer.fallback, error)


@both
@pytest.mark.parametrize(
    ("image", "history", "k", "error"),
    [
        (b"no image", HISTORY, 5, InvalidImage),
        (picture(), {"tag-1": -1}, 5, InvalidHistory),
        (picture(), HISTORY, 0, InvalidRequest),
    ],
)
def test_no_fallback_for_a_callers_mistake(kind: str, image: object, history: dict, k: int, error: type) -> None:
    with asking(kind, closed_port(), deadline_s=WAIT_S) as ask, pytest.raises(error):
        ask(image, history, k, fallback="history")


def pending(server: Server) -> int:
    """Requests that wait for the visual encoder, by Triton's metrics."""
    with urllib.request.urlopen(server.metrics_url) as metrics:
        gauge = r'^nv_inference_pending_request_count{model="visual_encoder",version="1"} (\d+)'
        return int(re.findall(gauge, metrics.read().decode(), re.MULTILINE)[0])


def classified(server: Server) -> int:
    """Rows that the last of the ensemble's models has answered."""
    with triton.InferenceServerClient(server.grpc_url) as client:
        return int(client.get_inference_statistics("classifier").model_stats[0].inference_count)


def log_verbosely(server: Server, level: int) -> None:
    """Set how much Triton logs; at level 1 it names the requests whose cancellation has reached it."""
    with triton.InferenceServerClient(server.grpc_url) as client:
        client.update_log_settings({"log_verbose_level": level})
