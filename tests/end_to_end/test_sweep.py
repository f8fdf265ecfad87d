"""A sweep over real servers, and over configs alone: what a load would measure is then made up from them."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from altreco_client import Unavailable

from export.config import read_config
from loadtest.commands import sweep as sweep_command
from loadtest.errors import LoadtestError
from loadtest.sweep.load import METRICS
from tests.end_to_end.conftest import Served


def arguments(served: Served, folder: Path, plan: str, *more: str) -> argparse.Namespace:
    (folder / "plan.toml").write_text(plan)
    parser = argparse.ArgumentParser()
    sweep_command.add_parser(parser.add_subparsers())
    given = ["--repository", str(served.repository), "--plan", str(folder / "plan.toml"), "--out", str(folder / "out")]
    return parser.parse_args(["sweep", *given, "--rounds", "2", *more])


@contextmanager
def unserved(repository: Path) -> Iterator[str]:
    """The repository's path in place of an address."""
    yield str(repository)


def results(folder: Path) -> dict:
    return json.loads((folder / "out" / "sweep.json").read_text())


def test_two_points_under_a_real_load(served: Served, tmp_path: Path) -> None:
    plan = "[visual_encoder]\ninstances = [2]"
    assert sweep_command.run(arguments(served, tmp_path, plan, "--requests", "16", "--clients", "4")) == 0
    kept = results(tmp_path)
    assert kept["finished"]
    (trial,) = kept["trials"][:1]
    assert trial["setting"] == "visual_encoder.instances"
    assert [candidate["label"] for candidate in trial["candidates"]] == ["1", "2"]
    for candidate in trial["candidates"]:
        assert len(candidate["rounds"]) == 2
        assert all(figures.keys() == METRICS.keys() for figures in candidate["rounds"])
        assert all(0 < value < 1e5 for figures in candidate["rounds"] for value in figures.values())
    assert "### `visual_encoder.instances`" in (tmp_path / "out" / "sweep.md").read_text()


def test_the_best_is_found_confirmed_and_recommended(served: Served, tmp_path: Path) -> None:
    plan = "[visual_encoder]\ninstances = [2, 3, 4]\npreferred_batch_sizes = [[16]]"

    def measure(url: str) -> dict[str, float]:
        config = read_config(Path(url), "visual_encoder")
        count = config.instance_group[0].count
        if list(config.dynamic_batching.preferred_batch_size) == [16]:
            return {"pictures_per_s": 1.0, "p95_ms": 100.0}
        if count == 4:
            raise Unavailable("it broke")
        return {"pictures_per_s": {1: 20.0, 2: 30.0, 3: 25.0}[count], "p95_ms": 100.0}

    assert sweep_command.run(arguments(served, tmp_path, plan), measure, unserved) == 0
    kept = results(tmp_path)
    first, second = kept["trials"]
    assert [candidate["failed"] for candidate in first["candidates"]] == ["", "", "", "it broke"]
    assert second["setting"] == "visual_encoder.preferred_batch_sizes"
    assert second["candidates"][1]["rounds"] == 2 * [{"pictures_per_s": 1.0, "p95_ms": 100.0}]
    assert kept["changes"] == {"visual_encoder.instances": 2}
    assert [candidate["label"] for candidate in kept["confirmation"]["candidates"]] == ["committed", "best"]
    report = (tmp_path / "out" / "sweep.md").read_text()
    assert "Recommended: `visual_encoder.instances` 2." in report
    assert "pictures per second 1.50 (1.50 to 1.50)" in report
    assert "# visual_encoder/config.pbtxt" in report
    assert "failed: it broke" in report


def test_a_setting_that_triton_refuses_is_out(served: Served, tmp_path: Path) -> None:
    plan = "[visual_encoder]\npreferred_batch_sizes = [[64]]"
    assert sweep_command.run(arguments(served, tmp_path, plan), lambda _: {"pictures_per_s": 20.0}) == 0
    (trial,) = results(tmp_path)["trials"]
    assert "preferred size must be <= max batch size" in trial["candidates"][1]["failed"]
    assert results(tmp_path)["changes"] == {}


def test_no_dynamic_batching_is_measured_and_never_recommended(served: Served, tmp_path: Path) -> None:
    def measure(url: str) -> dict[str, float]:
        batching = read_config(Path(url), "classifier").HasField("dynamic_batching")
        return {"pictures_per_s": 20.0 if batching else 30.0}

    plan = "[classifier]\ndynamic_batching = [false]"
    assert sweep_command.run(arguments(served, tmp_path, plan), measure, unserved) == 0
    (trial,) = results(tmp_path)["trials"]
    assert [candidate["rounds"][0]["pictures_per_s"] for candidate in trial["candidates"]] == [20, 30]
    assert results(tmp_path)["changes"] == {}


def test_what_was_measured_before_an_interruption_is_kept(served: Served, tmp_path: Path) -> None:
    loads = iter([30.0, 20.0, 31.0])

    def measure(url: str) -> dict[str, float]:
        for value in loads:
            return {"pictures_per_s": value}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_command.run(arguments(served, tmp_path, "[visual_encoder]\ninstances = [2]"), measure, unserved)
    kept = results(tmp_path)
    assert not kept["finished"]
    assert [len(candidate["rounds"]) for candidate in kept["trials"][0]["candidates"]] in ([1, 2], [2, 1])
    assert kept["changes"] == {}
    assert "Not finished" in (tmp_path / "out" / "sweep.md").read_text()


def test_committed_configs_that_cannot_be_loaded_end_it(served: Served, tmp_path: Path) -> None:
    def measure(url: str) -> dict[str, float]:
        raise Unavailable("it broke")

    with pytest.raises(
        LoadtestError, match=r"visual_encoder\.instances = 1, the setting to improve on, failed: it broke"
    ):
        sweep_command.run(arguments(served, tmp_path, "[visual_encoder]\ninstances = [2]"), measure, unserved)
