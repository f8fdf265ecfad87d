import json
from typing import Any

import pytest

from benchmark.images import ImageSettings, measure_images, render_images
from benchmark.quality import trained
from benchmark.settings import QUICK

SETTINGS = ImageSettings(rounds=2, photo=(2000, 1500), enlarged_side=1000, enlarged_pictures=8)


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("images")
    checkpoint, data = trained(QUICK, folder)
    return json.loads(json.dumps(measure_images(SETTINGS, checkpoint, data, folder)))


def test_every_photo_is_timed_in_both_ways(section: dict[str, Any]) -> None:
    photos = section["photos"]
    assert [round(of["megapixels"]) for of in photos.values()] == [3, 3, 3, 12, 3]
    assert photos["much detail"]["bytes"] > photos["some detail"]["bytes"] > photos["little detail"]["bytes"]
    for of in photos.values():
        assert set(of["ms"]) == {"main", "worker"}
        for times in of["ms"].values():
            assert {name: len(values) for name, values in times.items()} == {"plain": 2, "reduced": 2}
            assert min(times["plain"] + times["reduced"]) > 0


def test_the_tensors_differ_little_but_differ(section: dict[str, Any]) -> None:
    for of in section["photos"].values():
        assert 0 < of["mean_abs_difference"] <= 2
        assert of["max_abs_difference"] <= 16


def test_all_pictures_are_ranked_in_all_ways(section: dict[str, Any]) -> None:
    enlarged = section["enlarged"]
    assert enlarged["pictures"] == 8
    values = enlarged["precision_at_5"]
    assert set(values) == {"as it is", "plain", "reduced"}
    assert all(0 <= value <= 1 for value in values.values())
    assert enlarged["mean_bytes"] > 100_000


def test_the_report_shows_medians_ratios_round_by_round_and_differences(section: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(section))
    photo = changed["photos"]["much detail"] | {"bytes": 1_500_000, "megapixels": 3.0, "max_abs_difference": 7}
    times = {"plain": [100.0, 300.0], "reduced": [50.0, 50.0]}
    photo |= {
        "ms": {"main": times, "worker": {"plain": [10.0, 10.0], "reduced": [10.0, 5.0]}},
        "mean_abs_difference": 1,
    }
    changed["photos"] = {"much detail": photo}
    changed["enlarged"]["precision_at_5"] |= {"plain": 0.5, "reduced": 0.25}
    lines = render_images(changed)
    row = "1.5 | 4.0 | 200 (100 to 300) | 50 (50 to 50) | 4 (2 to 6) | 1.5 (1 to 2) | 7, 1.0 |"
    assert f"| much detail, 3 megapixels | {row}" in lines
    assert {"| enlarged, plain | 0.5000 |", "| enlarged, reduced | 0.2500 |"} <= set(lines)
    assert lines[-1] == ""
