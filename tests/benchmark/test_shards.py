import os
from pathlib import Path

from benchmark.sections.shards import measure_shards, render_shards
from tests.tiny import write_tiny_data

PHASES = ("read, cold", "read, warm", "decoded, cold", "decoded, warm")


def test_files_and_shards_are_read_in_turn_and_compared_round_by_round(tmp_path: Path) -> None:
    write_tiny_data(tmp_path / "data", tags=20)
    section = measure_shards(2, tmp_path / "data", tmp_path)
    assert section["pictures"] == 24
    size = sum(os.path.getsize(path) for path in (tmp_path / "data").glob("*.jpg"))
    assert size < section["shard_bytes"] < size + 24 * 1024 + 20_000
    for of_phase in section["per_s"].values():
        assert tuple(of_phase) == PHASES
        assert all(len(rates) == 2 and min(rates) > 0 for rates in of_phase.values())
    section["per_s"]["files"]["read, cold"] = [10.0, 40.0]
    section["per_s"]["shards"]["read, cold"] = [20.0, 40.0]
    lines = render_shards(section)
    assert "| read, from the disk | 25 (10 to 40) | 30 (20 to 40) | 1.5 (1 to 2) |" in lines
    assert lines[-1] == ""
