"""The committed rules and dashboard over two real servers under load: every query has an answer."""

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.monitoring.dashboard import panels
from deploy.monitoring.local import SUMMARIES, Prometheus, prometheus
from deploy.monitoring.traffic import asking, burst
from tests.deploy.monitoring import compose_flags
from tests.end_to_end.conftest import Served
from tests.servers import serving
from tests.tools import require

pytestmark = pytest.mark.slow

JOB, ALONE = "altreco/tag-recommender", "alone/tag-recommender"
WAIT_S = 120.0
"""After which a condition that does not come true fails a test."""
POLL_S = 0.5
BURST = 60


@dataclass(frozen=True)
class Watched:
    prometheus: Prometheus
    burst: Counter[str]
    """Outcomes of requests to the first server that had little patience: all the failures there were."""


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


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
    with serving(served.repository, **more) as one, serving(second, **more) as two:
        targets = [server.metrics_url.removeprefix("http://").removesuffix("/metrics") for server in (one, two)]
        with prometheus(folder, {JOB: targets, ALONE: targets[:1]}) as running:
            # A rate needs a sample from before.
            assert wait_until(lambda: len(running.query("up == 1")) == 3)
            with (
                asking(one.grpc_url, callers=2, pictures=6) as first,
                asking(two.grpc_url, callers=2, pictures=6) as other,
            ):
                yield Watched(running, burst(one.grpc_url, BURST, first_picture=100))
            assert set(first) == set(other) == {"answered"}


def finite(samples: list[dict[str, Any]]) -> bool:
    return any(math.isfinite(float(sample["value"][1])) for sample in samples)


def test_every_query_of_the_dashboard_has_an_answer_but_those_on_gpus(watched: Watched) -> None:
    expressions = [target.expression for panel in panels(job=JOB) for target in panel.targets]
    on_gpus = {expression for expression in expressions if "nv_gpu_" in expression}

    def unanswered() -> set[str]:
        return {expression for expression in expressions if not finite(watched.prometheus.query(expression))}

    assert len(expressions) > len(on_gpus) > 0
    wait_until(lambda: unanswered() == on_gpus)
    assert unanswered() == on_gpus


def test_every_recorded_rule_has_a_value_and_every_rule_is_healthy(watched: Watched) -> None:
    def valueless() -> set[str]:
        rules = watched.prometheus.rules()
        recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
        return {name for name in recorded if not finite(watched.prometheus.query(name))}

    wait_until(lambda: not valueless())
    assert valueless() == set()
    rules = watched.prometheus.rules()
    assert {rule["type"] for rule in rules} == {"alerting", "recording"}
    assert {(rule["name"], rule["health"], rule.get("lastError", "")) for rule in rules} == {
        (rule["name"], "ok", "") for rule in rules
    }


def test_a_failed_request_is_counted_once(watched: Watched) -> None:
    failed = watched.burst.total() - watched.burst["answered"]
    assert failed > 0, "the burst was answered whole"
    (rule,) = (rule for rule in watched.prometheus.rules() if rule["name"] == "instance:tag_recommender_failed:rate1m")
    # All of them instead of a rate, which would be extrapolated from the first seconds.
    counted = rule["query"].replace("rate(", "increase(").replace("[1m]", "[10m]")

    def rule_counts() -> float:
        (sample,) = (one for one in watched.prometheus.query(counted) if one["metric"]["job"] == ALONE)
        return float(sample["value"][1])

    # Triton counts most of them twice, and the rule's way out is not exact.
    wait_until(lambda: 0.8 * failed < rule_counts() < 1.2 * failed)
    assert rule_counts() == pytest.approx(failed, rel=0.35)


def test_two_releases_that_answer_are_a_mismatch_and_one_is_not(watched: Watched) -> None:
    def jobs() -> set[str]:
        samples = watched.prometheus.query('ALERTS{alertname="TagRecommenderReleaseMismatch"}')
        return {sample["metric"]["job"] for sample in samples}

    assert wait_until(lambda: jobs() != set())
    assert jobs() == {JOB}
