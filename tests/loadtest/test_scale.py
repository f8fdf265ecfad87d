import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from altreco_client import TagHistory, TagRecommender
from tritonclient.grpc import service_pb2 as pb

from loadtest.errors import LoadtestError
from loadtest.load.workload import DEFAULT, load_workload, zipf_shares
from loadtest.run.canned import SERVICE, Canned
from loadtest.scale.__main__ import main
from loadtest.scale.cache import expected_hit_rate, repeated_hit_rate
from loadtest.scale.sizing import (
    MACHINES,
    Demand,
    Machine,
    gbit_per_s,
    limit_per_s,
    load_machines,
    p99_wait_s,
    plan,
    request_bytes,
    rest_share,
    utilisation,
)
from measure.kept import mark
from tests.loadtest.lru import at_random, draw, hashed, lru_hits, simulate

PICTURES = load_workload(DEFAULT).pictures
SMALL = replace(PICTURES, catalogue=500, new_share=0.4)
GPU = Machine(name="gpu", source="test", new_per_s=1000, repeat_per_s=10_000, utilisation=0.5, nic_gbit=10)
ONE_CORE = Machine(name="core", source="test", new_per_s=20, repeat_per_s=500, p99_ms=300, nic_gbit=10)
DEMAND = Demand(per_second=10_000, pictures=PICTURES, cached_pictures=0, request_bytes=150_000)
DOCS = Path(__file__).parents[2] / "docs"
MARK = mark("python -m loadtest.scale")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_pictures_are_drawn_with_the_shares_of_the_workload() -> None:
    asked = draw(SMALL, 50_000, rng())
    known = asked[asked < 500]
    assert 1 - len(known) / len(asked) == pytest.approx(0.4, abs=0.01)
    assert len(np.unique(asked[asked >= 500])) == len(asked) - len(known)  # a new picture is asked for once
    np.testing.assert_allclose(np.bincount(known, minlength=500) / len(known), zipf_shares(500, 1.0), atol=0.01)


def test_a_cache_drops_what_was_unused_for_longest() -> None:
    asked = np.array([1, 2, 1, 3, 1, 2])
    hits = lru_hits(asked, np.zeros(6, dtype=np.int64), 2)
    assert hits.tolist() == [False, False, True, False, True, False]


def test_a_cache_of_nothing_has_nothing() -> None:
    asked = draw(SMALL, 5_000, rng())
    assert not lru_hits(asked, np.zeros(len(asked), dtype=np.int64), 0).any()
    assert expected_hit_rate(SMALL, 0) == 0


def test_a_cache_of_everything_misses_only_first_views() -> None:
    asked = draw(SMALL, 20_000, rng())
    hits = lru_hits(asked, np.zeros(len(asked), dtype=np.int64), len(asked))
    assert hits.sum() == len(asked) - len(np.unique(asked))
    assert hits[len(asked) // 2 :].mean() == pytest.approx(1 - SMALL.new_share, abs=0.01)
    assert expected_hit_rate(SMALL, 1e9) == pytest.approx(1 - SMALL.new_share)
    few = replace(SMALL, catalogue=5, new_share=0.0)
    assert expected_hit_rate(few, 5) == 1
    found = simulate(draw(few, 1_000, rng()), np.zeros(1_000, dtype=np.int64), 5)
    assert (found.hit_rate, found.busiest_misses) == (1, 0)


@pytest.mark.parametrize("replicas", [1, 10])
@pytest.mark.parametrize("capacity", [100, 1_000, 10_000])
def test_ches_approximation_is_what_is_simulated(replicas: int, capacity: int) -> None:
    asked = draw(PICTURES, 80_000, rng())
    spread = hashed(asked, replicas, rng())
    found = simulate(asked, spread, capacity // replicas).hit_rate
    assert found == pytest.approx(expected_hit_rate(PICTURES, capacity), abs=0.01)
    found = simulate(asked, at_random(asked, replicas, rng()), capacity // replicas).hit_rate
    assert found == pytest.approx(expected_hit_rate(PICTURES, capacity / replicas), abs=0.01)


@pytest.mark.parametrize("replicas", [2, 10])
def test_hashed_beats_random(replicas: int) -> None:
    asked = draw(PICTURES, 40_000, rng())
    random, by_picture = (
        simulate(asked, spread(asked, replicas, rng()), 2_000 // replicas) for spread in (at_random, hashed)
    )
    assert by_picture.hit_rate > random.hit_rate + 0.01
    assert by_picture.busiest_requests > by_picture.busiest_misses > 1  # a popular picture is found, once it is there


def test_a_hashed_picture_has_one_replica_and_all_replicas_have_some() -> None:
    asked = draw(SMALL, 10_000, rng())
    spread = hashed(asked, 7, rng())
    assert len({*zip(asked.tolist(), spread.tolist(), strict=True)}) == len(np.unique(asked))
    assert set(spread.tolist()) == set(range(7))


def test_a_few_views_at_random_replicas_are_mostly_first_views() -> None:
    views, replicas = 3, 10
    asked = np.repeat(np.arange(20_000), views)
    hits = lru_hits(asked, at_random(asked, replicas, rng()), len(asked))
    assert hits.mean() == pytest.approx(repeated_hit_rate(views, replicas), abs=0.005)
    assert repeated_hit_rate(views, 1) == pytest.approx(2 / 3)


def test_the_formula_fits_what_was_measured_between_new_and_repeat() -> None:
    cpu = load_machines(MACHINES)[0]
    assert limit_per_s(cpu, 0) == pytest.approx(31.0)
    assert limit_per_s(cpu, 1) == pytest.approx(555)
    for hit_rate, measured in ((0.5, 53.9), (0.9, 186)):  # docs/benchmarks.md, repeat pictures against new ones
        assert limit_per_s(cpu, hit_rate) == pytest.approx(measured, rel=0.12)


@pytest.mark.parametrize("hit_rate", [0, 0.3, 0.9])
@pytest.mark.parametrize(("share", "tolerance"), [(0.3, 0.35), (0.8, 0.1)])
def test_waiting_is_what_a_simulated_queue_has(hit_rate: float, share: float, tolerance: float) -> None:
    draws, count = rng(), 400_000
    service = np.where(draws.random(count) < hit_rate, ONE_CORE.rest_s, 1 / ONE_CORE.new_per_s)
    arrivals = draws.exponential(service.mean() / share, count)
    steps = np.cumsum(service[:-1] - arrivals[1:])  # Lindley
    waits = steps - np.minimum.accumulate(np.minimum(steps, 0))
    expected = p99_wait_s(ONE_CORE, hit_rate, share)
    assert np.quantile(waits, 0.99) == pytest.approx(expected, rel=tolerance)
    assert np.quantile(waits, 0.99) < 1.1 * expected  # where it is off, it is on the safe side


def test_utilisation_keeps_the_p99() -> None:
    share = utilisation(ONE_CORE, 0.3)
    assert p99_wait_s(ONE_CORE, 0.3, share) + 1 / 20 == pytest.approx(0.3)
    assert utilisation(GPU, 0.3) == 0.5
    assert utilisation(replace(ONE_CORE, p99_ms=1000), 0.3) > share


def test_replicas_by_hand() -> None:
    made = plan(GPU, DEMAND, hashed=False)  # 500 a second each, of 5,833 that the network card lets through
    assert (made.replicas, made.hit_rate, made.limit) == (20, 0, "compute")
    assert (made.compute_per_s, made.network_per_s) == (pytest.approx(500), pytest.approx(5_833, abs=1))
    slow = plan(replace(GPU, nic_gbit=0.5), DEMAND, hashed=False)  # 292 a second
    assert (slow.replicas, slow.limit) == (35, "network")
    assert gbit_per_s(10_000, 150_000) == pytest.approx(12)
    assert rest_share(GPU, 0) == pytest.approx(0.1)
    assert rest_share(GPU, 0.9) == pytest.approx(1 / (1 + 0.9), abs=1e-9)  # 0.1 ms of 0.1 + 0.1 x 0.9 ms


def test_replicas_are_the_fewest_that_do() -> None:
    demand = replace(DEMAND, cached_pictures=1_000)
    random, by_picture = (plan(GPU, demand, hashed=by_picture) for by_picture in (False, True))
    assert by_picture.replicas < random.replicas < 20
    assert by_picture.hit_rate == pytest.approx(expected_hit_rate(PICTURES, 1_000 * by_picture.replicas))
    for made in (random, by_picture):
        assert made.replicas * made.compute_per_s >= demand.per_second
    fewer = 0.5 * limit_per_s(GPU, expected_hit_rate(PICTURES, 1_000 * (by_picture.replicas - 1)))
    assert (by_picture.replicas - 1) * fewer < demand.per_second


def test_a_request_has_the_bytes_that_the_client_sends() -> None:
    sizes = []
    canned = Canned(1540)

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        sizes.append(request.ByteSize())
        return canned.infer(request, context)

    def handler(method: Any, kind: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(method, kind.FromString, lambda answer: answer.SerializeToString())

    handlers = {
        "ModelMetadata": handler(canned.metadata, pb.ModelMetadataRequest),
        "ModelInfer": handler(infer, pb.ModelInferRequest),
    }
    server = grpc.server(ThreadPoolExecutor(1), [grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with TagRecommender(f"127.0.0.1:{port}") as recommender:
            recommender.recommend(np.zeros((300, 400, 3), dtype=np.uint8), TagHistory({"tag-1": 1}))
    finally:
        server.stop(0).wait()
    assert sizes[-1] == pytest.approx(request_bytes(1540), abs=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--per-second", "0"], "--per-second is 0, expected a number above 0"),
        (["--per-second", "10000", "nan"], "--per-second is nan"),
        (["--cache-mib", "-1"], "--cache-mib is -1, expected MiB, 0 or more"),
        (["--vocabulary", "0"], "--vocabulary is 0"),
        (["--out", "/no/such/folder"], "expected an existing folder"),
        (["--machines", "/no/such.toml"], "cannot read the list of machines /no/such.toml"),
    ],
)
def test_bad_options_are_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"new_per_s": 600}, "expected both above 0, and more repeat than new"),
        ({"nic_gbit": 0}, "nic_gbit is 0"),
        ({"p99_ms": 40}, "p99_ms is 40, expected more than the 45.5 ms of a new picture"),
        ({"utilisation": 0.5}, "expected one of them"),
        ({"p99_ms": None}, "expected one of them"),
        ({"p99_ms": None, "utilisation": 1.5}, "utilisation is 1.5"),
        ({"gpus": 1}, "there is no machines[0].gpus"),
    ],
)
def test_a_bad_machine_is_refused(changes: dict[str, float | None], message: str, tmp_path: Path) -> None:
    values = {"new_per_s": 22, "repeat_per_s": 529, "p99_ms": 150, "nic_gbit": 10, **changes}
    lines = [f"{key} = {value}" for key, value in values.items() if value is not None]
    path = tmp_path / "machines.toml"
    path.write_text("\n".join(["[[machines]]", 'name = "cpu"', 'source = "test"', *lines]))
    with pytest.raises(LoadtestError, match=re.escape(message)):
        load_machines(path)


def test_the_command_writes_tables_and_picture_and_keeps_what_is_written_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scale.md").write_text(f"# Mine\n\nKept.\n\n{MARK}\nold\n")
    assert main(["--per-second", "5000", "--out", str(tmp_path)]) == 0
    printed, written = capsys.readouterr().out, (tmp_path / "scale.md").read_text()
    assert written == f"# Mine\n\nKept.\n\n{MARK}\n\n{printed.rstrip(chr(10))}\n"
    assert "## 5,000 recommendations per second" in printed
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.rstrip() == (DOCS / "scale.md").read_text(encoding="utf-8").split(MARK)[1].strip()
