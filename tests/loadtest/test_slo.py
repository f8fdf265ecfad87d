from pathlib import Path

import pytest

from loadtest.errors import LoadtestError
from loadtest.judge.slo import given, load_slos, requests_needed

COMMITTED = sorted((Path(__file__).parents[2] / "loadtest" / "slos").glob("*.toml"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_committed_files_are_read(path: Path) -> None:
    slos = load_slos(path)
    assert slos.name == path.stem
    assert "p99_ms" in given(slos.all)


def test_what_is_not_given_is_not_limited(tmp_path: Path) -> None:
    slos = load_slos(_file(tmp_path, "[all]\np99_ms = 100\n[new]\nerror_share = 0\n"))
    assert given(slos.all) == {"p99_ms": 100}
    assert given(slos.new) == {"error_share": 0}
    assert given(slos.cold) == {}
    shares = {"cpu_share": 0.9, "share_of_limit": 0.9, "late_share": 0.5, "machine_share": 0.9}
    assert given(slos.generator) == shares | {"began_late_ms": 50, "pause_ms": 1000, "round_trip_ms": 20}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[all]\np99 = 100", ["no all.p99,", "expected", "p99_ms"]),
        ("[every]\np99_ms = 100", ["no every,", "expected", "all", "repeat"]),
        ("[generator]\ncpu = 0.9", ["no generator.cpu,", "cpu_share"]),
        ("[all]\np99_ms = '100'", ["p99_ms", "'100'", "a number"]),
        ("[all]\np99_ms = true", ["p99_ms", "True", "a number"]),
        ("[all]\np99_ms = 0", ["all.p99_ms", "above 0"]),
        ("[all]\np99_ms = nan", ["all.p99_ms", "above 0"]),
        ("[all]\nerror_share = 1", ["error_share", "below 1"]),
        ("[all]\np50_ms = 200\np99_ms = 100", ["p99_ms", "p50_ms of 200 or more"]),
        ("[generator]\ncpu_share = 90\n[all]\np99_ms = 1", ["cpu_share", "90", "share"]),
        ("[generator]\npause_ms = 0\n[all]\np99_ms = 1", ["pause_ms is 0", "milliseconds above 0"]),
        ("all = 3", ["all", "table"]),
        ("[all]\n", ["limits nothing"]),
        ("[all", ["not TOML"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(LoadtestError) as caught:
        load_slos(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadtestError, match=r"none\.toml: No such file"):
        load_slos(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("metric", "limit", "needed"),
    [
        ("p50_ms", 1, 10),
        ("p95_ms", 1, 100),
        ("p99_ms", 1, 500),
        ("p99_9_ms", 1, 5000),
        ("error_share", 0.001, 1000),
        ("error_share", 0, 1),
        ("requests_per_s", 10, 0),
    ],
)
def test_how_many_requests_a_statement_takes(metric: str, limit: float, needed: int) -> None:
    assert requests_needed(metric, limit) == needed


def _file(folder: Path, text: str) -> Path:
    path = folder / "given.toml"
    path.write_text(text)
    return path
