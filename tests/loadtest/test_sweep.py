from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from loadtest.commands import sweep as sweep_command
from loadtest.errors import LoadtestError
from loadtest.load.workload import DEFAULT, load_workload
from loadtest.sweep.configs import ModelPlan, SweepPlan, committed, load_plan, read_config, write_variant
from loadtest.sweep.load import SweepLoad
from loadtest.sweep.report import config_snippets
from loadtest.sweep.search import Candidate, Trial
from tests.tiny import REPOSITORY, copy_configs


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return copy_configs(tmp_path / "model_repository")


def trial(base: list[float], other: list[float], metric: str = "pictures_per_s") -> Trial:
    candidates = [
        Candidate(label=label, point={"visual_encoder.threads": i}, rounds=tuple({metric: value} for value in values))
        for i, (label, values) in enumerate((("0", base), ("1", other)))
    ]
    return Trial(setting="visual_encoder.threads", candidates=tuple(candidates))


@pytest.mark.parametrize(
    ("base", "other", "metric", "verdict"),
    [
        ([20, 21, 20], [22, 23, 21], "pictures_per_s", "better"),
        ([20, 21, 20], [22, 23, 19], "pictures_per_s", "same"),  # not in every round
        ([20, 21, 20], [20.1, 21.1, 20.1], "pictures_per_s", "same"),  # by less than 2 %
        ([20, 21, 20], [19, 20, 19], "pictures_per_s", "worse"),
        ([20, 21, 20], [19, 20, 19], "p95_ms", "better"),
        ([20, 21, 20], [22, 23, 21], "p95_ms", "worse"),
        ([20, 21, 20], [], "p95_ms", "not measured"),
    ],
)
def test_a_difference_counts_when_every_round_has_it(
    base: list[float], other: list[float], metric: str, verdict: str
) -> None:
    compared = trial(base, other, metric)
    assert compared.verdict(compared.candidates[1]) == verdict
    assert (compared.winner is compared.base) == (verdict != "better")


def test_what_is_better_in_one_metric_and_worse_in_another_is_left_to_people() -> None:
    rounds = [{"pictures_per_s": 20.0, "p95_ms": 100.0}] * 3
    others = [{"pictures_per_s": 25.0, "p95_ms": 130.0}] * 3
    mixed = Trial(
        setting="visual_encoder.threads",
        candidates=(
            Candidate(label="0", point={}, rounds=tuple(rounds)),
            Candidate(label="1", point={}, rounds=tuple(others)),
        ),
    )
    assert mixed.verdict(mixed.candidates[1]) == "mixed"
    assert mixed.winner is mixed.base


def test_variants_differ_in_the_settings_alone(repository: Path, tmp_path: Path) -> None:
    (repository / "visual_encoder" / "1").mkdir()
    (repository / "visual_encoder" / "1" / "model.onnx").write_bytes(b"weights")
    point = {
        "visual_encoder.instances": 3,
        "visual_encoder.threads": 2,
        "visual_encoder.max_queue_delay_us": 500,
        "visual_encoder.preferred_batch_sizes": (4, 8),
        "visual_encoder.cache": False,
        "classifier.threads": 0,
        "classifier.max_queue_delay_us": 500,
        "classifier.dynamic_batching": False,
    }
    variant = write_variant(repository, tmp_path / "variant", point)
    before, after = (read_config(of / "visual_encoder" / "config.pbtxt") for of in (repository, variant))
    assert after.instance_group[0].count == 3
    assert after.parameters["intra_op_thread_count"].string_value == "2"
    assert list(after.dynamic_batching.preferred_batch_size) == [4, 8]
    assert after.dynamic_batching.max_queue_delay_microseconds == 500
    assert after.dynamic_batching.default_queue_policy == before.dynamic_batching.default_queue_policy
    assert not after.response_cache.enable
    for field in ("instance_group", "parameters", "dynamic_batching", "response_cache"):
        before.ClearField(field)
        after.ClearField(field)
    assert after == before
    assert (variant / "visual_encoder" / "1" / "model.onnx").read_bytes() == b"weights"
    classifier = read_config(variant / "classifier" / "config.pbtxt")
    assert not classifier.HasField("dynamic_batching")
    assert "intra_op_thread_count" not in classifier.parameters
    ensembles = [of / "tag_recommender" / "config.pbtxt" for of in (repository, variant)]
    assert read_config(ensembles[0]) == read_config(ensembles[1])
    keys = SweepPlan(
        visual_encoder=ModelPlan(instances=(1,), threads=(1,), cache=(True,), preferred_batch_sizes=((1,),)),
        classifier=ModelPlan(dynamic_batching=(True,), threads=(1,)),
    )
    assert committed(variant, keys) == {key: point[key] for key in keys.values()}


def test_instances_and_threads_are_turned_together(repository: Path, tmp_path: Path) -> None:
    plan = SweepPlan(visual_encoder=ModelPlan(instances_and_threads=((2, 1),)))
    assert committed(repository, plan) == committed(REPOSITORY, plan)
    point = {"visual_encoder.instances_and_threads": (2, 1)}
    variant = write_variant(repository, tmp_path / "variant", point)
    assert committed(variant, plan) == point
    (tmp_path / "plan.toml").write_text("[visual_encoder]\ninstances_and_threads = [[2, 1]]\nthreads = [2]")
    with pytest.raises(LoadtestError, match="give one or the others"):
        load_plan(tmp_path / "plan.toml")


def test_snippets_are_valid_configs() -> None:
    lines = config_snippets({"visual_encoder.instances": 1, "visual_encoder.max_queue_delay_us": 500})
    assert lines[0] == "# visual_encoder/config.pbtxt"
    config = text_format.Parse("\n".join(lines), pb.ModelConfig())
    assert (config.instance_group[0].count, config.dynamic_batching.max_queue_delay_microseconds) == (1, 500)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "[visual_encoder]\nthread = [1]",
            "there is no visual_encoder.thread, expected instances_and_threads, instances",
        ),
        ("[visual]\nthreads = [1]", "there is no visual, expected visual_encoder"),
        ("[visual_encoder]\nthreads = [-1]", "threads is .-1., expected 0 or more"),
        ("[visual_encoder]\ncache = [1]", r"visual_encoder.cache.0. is 1, expected true or false"),
        ("", "has no values to try"),
    ],
)
def test_a_plan_with_a_mistake_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(LoadtestError, match=reason):
        load_plan(tmp_path / "plan.toml")


@pytest.mark.parametrize("plan", sorted(sweep_command.PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_committed_plans_try_what_is_not_committed(plan: Path) -> None:
    values = load_plan(plan).values()
    now = committed(REPOSITORY, load_plan(plan))
    assert values
    assert all(set(tried) - {now[key]} for key, tried in values.items())


def test_too_few_requests_are_refused() -> None:
    with pytest.raises(LoadtestError, match="10 requests by 8 clients"):
        SweepLoad(workload=load_workload(DEFAULT), requests=10)
