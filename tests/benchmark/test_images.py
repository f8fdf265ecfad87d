from typing import Any

from benchmark.sections.images import render_images


def test_the_report_shows_medians_ratios_round_by_round_and_differences(committed: dict[str, Any]) -> None:
    changed = committed["images"]
    photo = changed["photos"]["much detail"] | {"bytes": 1_500_000, "megapixels": 3.0, "max_abs_difference": 7}
    times = {"plain": [100.0, 300.0], "reduced": [50.0, 50.0]}
    photo |= {
        "ms": {"main": times, "worker": {"plain": [10.0, 10.0], "reduced": [10.0, 5.0]}},
        "mean_abs_difference": 1.25,
    }
    changed["photos"] = {"much detail": photo}
    changed["enlarged"]["precision_at_5"] |= {"plain": 0.5, "reduced": 0.25}
    lines = render_images(changed)
    row = "1.5 | 200 | 50 | 4 (2 to 6) |"
    assert f"| much detail, 3 megapixels | {row}" in lines
    text = "\n".join(lines)
    assert "In a worker thread, where full decoding is faster, the ratios are 1.5 to 1.5." in text
    assert "differ by at most 7 grey levels, and on average by at most 1.2." in text
    assert "full 0.5000, reduced 0.2500;" in text
    assert lines[-1] == ""
