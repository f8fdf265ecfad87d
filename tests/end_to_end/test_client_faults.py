"""Servers die, stop and come back while callers ask: each call answers or raises within its deadline."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc as triton
from altreco_client import Channel, DeadlineExceeded, Recommendation, TagRecommender, Unavailable

from deploy.local import Server
from measure.waiting import wait_until
from reliability.servers import kill, terminate
from reliability.slow_model import SlowModel, slow_repository
from tests.end_to_end.conftest import Served
from tests.end_to_end.faults import (
    CALLERS,
    HISTORY,
    SHARED_SLACK_S,
    SLACK_S,
    WAIT_S,
    Load,
    asking,
    gone,
    messages,
    picture,
    stopped,
    under_load,
    within,
)
from tests.servers import own_ports, serving

RECOVERY_S = 10.0
"""From the moment that a server is ready again until its clients get answers; the channel reconnects every 2 s."""
BUSY_S = 0.03
"""Per batch, so that a fault finds requests in the server."""
both = pytest.mark.parametrize("kind", ["sync", "asyncio"])


@pytest.fixture
def slow(served: Served, tmp_path: Path) -> SlowModel:
    return slow_repository(served.repository, tmp_path / "slow")


@pytest.fixture
def two(served: Served, tmp_path: Path) -> tuple[SlowModel, SlowModel]:
    one, other = (slow_repository(served.repository, tmp_path / name) for name in ("one", "other"))
    return one, other


@pytest.fixture
def replicas(two: tuple[SlowModel, SlowModel]) -> Iterator[tuple[Server, Server]]:
    flag = "--exit-timeout-secs=2"
    with serving(two[0].repository, extra_args=(flag,)) as one, serving(two[1].repository) as other:
        for model in two:
            model.take(BUSY_S)
        yield one, other


@pytest.fixture(scope="module")
def lasting(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Replicas that no test ends."""
    models = [slow_repository(served.repository, tmp_path_factory.mktemp("lasting") / "models") for _ in range(2)]
    for model in models:
        model.take(BUSY_S)
    with serving(models[0].repository) as one, serving(models[1].repository) as other:
        yield one, other


def address(replicas: tuple[Server, Server]) -> str:
    return f"ipv4:{','.join(server.grpc_url for server in replicas)}"


@both
def test_a_server_killed_and_restarted_under_load(slow: SlowModel, kind: str) -> None:
    deadline_s = 5.0
    slow.take(BUSY_S)
    at = next(own_ports())
    with (
        serving(slow.repository, grpc_port=at) as first,
        under_load(kind, first.grpc_url, deadline_s=deadline_s) as load,
    ):
        wait_until(lambda: len(load.answered) > 2 * CALLERS)
        assert load.failed == []
        kill(first)
        wait_until(lambda: len(load.failed) > CALLERS)
        with serving(slow.repository, grpc_port=at):
            before = len(load.answered)
            wait_until(lambda: len(load.answered) > before + CALLERS, seconds=RECOVERY_S)
            failed = len(load.failed)
            wait_until(lambda: len(load.answered) > before + 5 * CALLERS)
            assert len(load.failed) <= failed + CALLERS, "calls still fail after others were answered"
    assert set(load.errors()) <= {"Unavailable", "DeadlineExceeded"}, messages(load)
    assert load.slowest_s < deadline_s + SHARED_SLACK_S


@both
@pytest.mark.parametrize("end", [kill, terminate])
def test_one_of_two_replicas_lost_under_load(
    two: tuple[SlowModel, SlowModel], replicas: tuple[Server, Server], kind: str, end: Callable[[Server], None]
) -> None:
    with under_load(kind, address(replicas), deadline_s=WAIT_S) as load:
        wait_until(lambda: min(len(model.executed()) for model in two) > 2 * CALLERS)
        end(replicas[0])
        wait_until(lambda: gone(replicas[0]))
        after = len(load.answered)
        wait_until(lambda: len(load.answered) > after + 10 * CALLERS)
    # A server told to end refuses calls for a moment, and all attempts of one may meet it (docs/reliability.md).
    assert len(load.failed) <= (0.05 * len(load.ended) if end is terminate else 0), messages(load)
    assert set(load.errors()) <= {"Unavailable"}, messages(load)
    assert load.slowest_s < SHARED_SLACK_S, "a call waited for the server that was lost"


@both
def test_a_replica_without_the_model_sends_nobody_away(two: tuple[SlowModel, SlowModel], kind: str) -> None:
    """What a server answers while it shuts down, held for as long as the test needs."""
    explicit = serving(two[0].repository, model_control="explicit", extra_args=("--load-model=*",))
    with (
        explicit as one,
        serving(two[1].repository) as other,
        asking(kind, address((one, other)), deadline_s=WAIT_S) as ask,
    ):
        wait_until(lambda: bool(ask(picture(), HISTORY).tags) and all(model.executed() for model in two))
        with triton.InferenceServerClient(one.grpc_url) as client:
            client.unload_model("tag_recommender")
            wait_until(lambda: not client.is_model_ready("tag_recommender"))
        for _ in range(10):
            assert ask(picture(), HISTORY).tags
        kill(other)
        with pytest.raises(Unavailable):
            ask(picture(), HISTORY)


def is_calm(load: Load) -> bool:
    """Whether the next calls are all answered; half of them would go to a replica that stopped."""
    failed, answered = len(load.failed), len(load.answered)
    wait_until(lambda: len(load.answered) > answered + 10 * CALLERS)
    return len(load.failed) == failed


@pytest.mark.timing
@both
def test_a_stopped_replica_is_given_up(lasting: tuple[Server, Server], kind: str) -> None:
    deadline_s = 1.0
    channel = Channel(keepalive_s=0.5, keepalive_timeout_s=0.5)
    with under_load(kind, address(lasting), deadline_s=deadline_s, channel=channel) as load:
        wait_until(lambda: len(load.answered) > 4 * CALLERS)
        with stopped(lasting[0]):
            wait_until(lambda: len(load.failed) > 0)
            wait_until(lambda: is_calm(load))
    # Late requests shrink the limit of those in flight, so a call may be refused until the replica is given up.
    assert set(load.errors()) <= {"Unavailable", "DeadlineExceeded", "Overloaded"}, messages(load)
    assert load.slowest_s < deadline_s + SLACK_S


@pytest.mark.timing
@both
def test_a_stalled_server_is_out_of_time_and_answers_when_it_goes_on(lasting: tuple[Server, Server], kind: str) -> None:
    server = lasting[0]
    with asking(kind, server.grpc_url, deadline_s=0.3) as ask:
        assert ask(picture(), HISTORY, deadline_s=10).tags
        late = pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.3 s")
        with stopped(server), within(0.3, SLACK_S), late:
            ask(picture(), HISTORY)
        assert ask(picture(), HISTORY, deadline_s=10).tags


def scores(answer: Recommendation) -> list[float]:
    return [score for _, score in sorted((tag.name, tag.score) for tag in answer.tags)]


@both
def test_callers_that_share_a_client_get_their_own_answers(served: Served, kind: str) -> None:
    callers, rounds = 16, 4
    users = [(picture(i), {f"tag-{i}": 3, f"tag-{2 * i + 1}": 1}) for i in range(callers)]
    with asking(kind, served.server.grpc_url, deadline_s=WAIT_S) as ask, ThreadPoolExecutor(callers) as pool:

        def mine(i: int) -> Recommendation:
            return ask(*users[i], k=1540, request_id=f"caller-{i}")

        alone = [mine(i) for i in range(callers)]
        for i in range(callers):
            assert all(scores(alone[i]) != pytest.approx(scores(alone[j]), abs=1e-3) for j in range(i))
        for i, answer in zip(list(range(callers)) * rounds, pool.map(mine, list(range(callers)) * rounds), strict=True):
            assert answer.request_id == f"caller-{i}"
            assert scores(answer) == pytest.approx(scores(alone[i]), abs=1e-4)


FORK = """
import os, sys
from altreco_client import InvalidRequest, TagRecommender
recommender = TagRecommender(sys.argv[1], deadline_s=30)
assert recommender.ready()
child = os.fork()
if child == 0:
    try:
        recommender.recommend(b"")
    except InvalidRequest as error:
        print(error, flush=True)
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert len(recommender.vocabulary) == 1540
recommender.close()
"""


def test_after_a_fork_the_child_is_told_and_the_parent_goes_on(served: Served) -> None:
    command = [sys.executable, "-c", FORK, served.server.grpc_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    assert "make one in each process, after the fork" in done.stdout


def test_a_closed_client_says_so(served: Served) -> None:
    recommender = TagRecommender(served.server.grpc_url)
    recommender.close()
    with pytest.raises(ValueError, match="closed: make another"):
        recommender.recommend(picture())
