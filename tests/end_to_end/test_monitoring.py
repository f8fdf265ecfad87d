"""The committed rules and dashboard over two real servers under load: every query has an answer."""

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from altreco_client import contract
from altreco_client.call.wire import inputs
from tritonclient.utils import InferenceServerException

from measure.callers import Caller, Calls, calling
from measure.requests import Request, history_row, known, mixed, new_requests
from measure.waiting import wait_until
from tests.deploy.monitoring import compose_flags, panels
from tests.deploy.prometheus import SUMMARIES, Prometheus, prometheus
from tests.end_to_end.candidates import BAD, failing, plus
from tests.end_to_end.conftest import Served
from tests.end_to_end.http_service import Answer, ask, http_service
from tests.servers import serving
from tests.tiny import TAGS
from tests.tools import require

pytestmark = pytest.mark.slow

JOB, ALONE = "altreco/tag-recommender", "alone/tag-recommender"
GATEWAY = "altreco/tag-recommender-gateway"
WAIT_S = 120.0
"""After which a condition that does not come true fails a test."""
POLL_S = 0.5
PAUSE_S = 0.1
"""Between two requests of a caller: enough for a rate in every query, and cores for the other tests."""
FAILED = 60


@dataclass(frozen=True)
class Watched:
    prometheus: Prometheus
    failed: int
    """Requests that the first server failed to answer."""


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether the condition holds in time."""
    try:
        wait_until(condition, "", seconds=WAIT_S, poll_s=POLL_S)
    except TimeoutError:
        return False
    return True


@contextmanager
def asking(url: str) -> Iterator[Calls[None]]:
    """Two callers, half of whose requests are for pictures that the cache has."""

    def ask(request: Request) -> None:
        client.infer(contract.TAG_RECOMMENDER.name, request, client_timeout=WAIT_S)

    again = known(new_requests(TAGS, seed=0))
    with triton.InferenceServerClient(url) as client:
        callers = [Caller(ask, mixed(new_requests(TAGS), again, 0.5)) for _ in range(2)]
        with calling(callers, every_s=PAUSE_S, failures=(InferenceServerException,)) as calls:
            yield calls


def accepting(gateway: str) -> AbstractContextManager[Calls[Answer]]:
    """A caller that reports, again and again, that the second tag of two was taken."""
    taken = json.dumps({"release": "1", "suggested": ["sea", "sky"], "accepted": ["sky"]}).encode()
    report = Caller(
        lambda body: ask(gateway, "/v1/accepted", body, {"Content-Type": "application/json"}), repeat(taken)
    )
    return calling([report], every_s=0.2)


def fail(url: str, requests: int) -> int:
    """Send requests that the first server's visual encoder fails."""
    image = np.full((1, *contract.IMAGE.dims), BAD, dtype=np.uint8)
    tensors = inputs((contract.IMAGE, image), (contract.USER_TAG_COUNTS, history_row(TAGS)))
    with triton.InferenceServerClient(url) as client:
        for _ in range(requests):
            with pytest.raises(InferenceServerException, match="in ensemble 'tag_recommender'"):
                client.infer(contract.TAG_RECOMMENDER.name, tensors, client_timeout=WAIT_S)
    return requests


def as_release_2(repository: Path, destination: Path) -> Path:
    """The same models under another number."""
    shutil.copytree(repository, destination)
    for folder in destination.glob("*/1"):
        folder.rename(folder.with_name("2"))
    config = destination / "tag_recommender" / "config.pbtxt"
    text = config.read_text()
    assert "versions: 1" in text
    assert "model_version: 1" in text
    config.write_text(text.replace("versions: 1", "versions: 2").replace("model_version: 1", "model_version: 2"))
    return destination


@pytest.fixture(scope="module")
def watched(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    require("prometheus")
    assert SUMMARIES in compose_flags()
    folder = tmp_path_factory.mktemp("watched")
    second = as_release_2(served.repository, folder / "release-2")
    more: dict[str, Any] = {"extra_args": (SUMMARIES,)}
    first = shutil.copytree(served.repository, folder / "failing")
    visual = first / "visual_encoder" / "1" / "model.onnx"
    plus(visual, failing, given="IMAGE", output="VISUAL_ENCODING")
    command = [sys.executable, "-m", "altreco_client", "gateway", "--port", "0"]
    with serving(first, **more) as one, serving(second, **more) as two, http_service(command) as gateway:
        targets = [server.metrics_url.removeprefix("http://").removesuffix("/metrics") for server in (one, two)]
        jobs = {JOB: targets, ALONE: targets[:1], GATEWAY: [gateway.removeprefix("http://")]}
        with prometheus(folder, jobs) as running:
            # A rate needs a sample from before.
            wait_until(lambda: len(running.query("up == 1")) == 4, "four targets", seconds=WAIT_S)
            failed = fail(one.grpc_url, FAILED)  # before the callers, who would share a batch with some of them
            with asking(one.grpc_url) as calm, asking(two.grpc_url) as other, accepting(gateway):
                yield Watched(running, failed)
            for calls in (calm, other):
                assert calls.answered
                assert calls.failed == []


def finite(samples: list[dict[str, Any]]) -> bool:
    return any(math.isfinite(float(sample["value"][1])) for sample in samples)


def test_every_query_of_the_dashboard_has_an_answer_but_those_on_gpus(watched: Watched) -> None:
    expressions = [query for panel in panels(job=JOB) for query in panel.queries]
    on_gpus = {expression for expression in expressions if "nv_gpu_" in expression}

    def unanswered() -> set[str]:
        return {expression for expression in expressions if not finite(watched.prometheus.query(expression))}

    assert len(expressions) > len(on_gpus) > 0
    comes_true(lambda: unanswered() == on_gpus)
    assert unanswered() == on_gpus


def test_the_dashboard_shows_what_users_take_by_release_and_rank(watched: Watched) -> None:
    by_release, by_rank = (
        query for panel in panels(job=JOB) for query in panel.queries if "altreco_accepted_total" in query
    )

    def shares(query: str) -> dict[str, float]:
        samples = watched.prometheus.query(query)
        return {"".join(one["metric"].values()): float(one["value"][1]) for one in samples}

    comes_true(lambda: shares(by_rank) == {"1": 0.0, "2": 1.0})
    assert shares(by_rank) == {"1": 0.0, "2": 1.0}
    assert shares(by_release) == {"1": 0.5}


def test_every_recorded_rule_has_a_value_and_every_rule_is_healthy(watched: Watched) -> None:
    def valueless() -> set[str]:
        rules = watched.prometheus.rules()
        recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
        return {name for name in recorded if not finite(watched.prometheus.query(name))}

    comes_true(lambda: not valueless())
    assert valueless() == set()
    rules = watched.prometheus.rules()
    assert {rule["type"] for rule in rules} == {"alerting", "recording"}
    assert {(rule["name"], rule["health"], rule.get("lastError", "")) for rule in rules} == {
        (rule["name"], "ok", "") for rule in rules
    }


def test_a_failed_request_is_counted_once(watched: Watched) -> None:
    failed = watched.failed
    (rule,) = (rule for rule in watched.prometheus.rules() if rule["name"] == "instance:tag_recommender_failed:rate1m")
    # All of them instead of a rate, which would be extrapolated from the first seconds.
    counted = rule["query"].replace("rate(", "increase(").replace("[1m]", "[10m]")

    def rule_counts() -> float:
        (sample,) = (one for one in watched.prometheus.query(counted) if one["metric"]["job"] == ALONE)
        return float(sample["value"][1])

    # Triton counts most of them twice, and the rule's way out is not exact.
    comes_true(lambda: 0.8 * failed < rule_counts() < 1.2 * failed)
    assert rule_counts() == pytest.approx(failed, rel=0.35)


def test_two_releases_that_answer_are_a_mismatch_and_one_is_not(watched: Watched) -> None:
    def jobs() -> set[str]:
        samples = watched.prometheus.query('ALERTS{alertname="TagRecommenderReleaseMismatch"}')
        return {sample["metric"]["job"] for sample in samples}

    assert comes_true(lambda: jobs() != set())
    assert jobs() == {JOB}
