from pathlib import Path

import numpy as np
import pytest

from loadtest.errors import LoadtestError
from loadtest.load.profiles import Profile, Stage
from loadtest.records import load_run
from loadtest.run.one import PARTS, finished_run
from loadtest.run.parts import (
    ERRORS,
    MOST_BYTES,
    PICTURES,
    Outbox,
    Part,
    Recorder,
    Tail,
    bound_reached,
    collect,
    started,
)
from tests.loadtest.make_run import make_run

PROFILE = Profile(rate=1, stages=(Stage(name="a", duration_s=1), Stage(name="b", duration_s=1)))


def recorder_in(part: Path, started_s: float) -> Recorder:
    return Recorder(Part(part, started_s).append)


def add(recorder: Recorder, started_s: float, pictures: list[int], error: str | None = None) -> None:
    recorder.add(
        pictures, intended_s=started_s - 0.1, started_s=started_s, ended_s=started_s + 1, cold=False, error=error
    )


def test_two_processes_make_one_set_of_records(tmp_path: Path) -> None:
    first, second = recorder_in(tmp_path / "part-0", 100.0), recorder_in(tmp_path / "part-1", 100.5)
    add(first, 0.2, [7])
    add(second, 0.1, [7])  # at 0.6 on the clock of the first
    add(first, 0.8, [7, 8])
    add(second, 0.9, [7, 8], "Unavailable: gone")
    records = collect(tmp_path, PROFILE)
    assert started(tmp_path) == 100.0
    assert records.started_s.round(6).tolist() == [0.2, 0.6, 0.8, 1.4]
    assert records.repeat.tolist() == [False, True, False, True]
    assert records.rows.tolist() == [1, 1, 2, 2]
    assert records.phase.tolist() == [0, 0, 0, 1]
    assert records.error.tolist() == [-1, -1, -1, 0]
    assert records.errors == ("Unavailable: gone",)


def test_a_process_that_was_killed_leaves_whole_records(tmp_path: Path) -> None:
    recorder = recorder_in(tmp_path / "part-0", 0.0)
    add(recorder, 0.2, [7])
    add(recorder, 0.4, [8, 9])
    for name, cut in (("part-0.requests", 5), ("part-0.pictures", 0)):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - cut])
    assert collect(tmp_path, PROFILE).rows.tolist() == [1]


def test_the_tail_is_what_came_since_the_last_look(tmp_path: Path) -> None:
    tail, recorder = Tail(tmp_path), recorder_in(tmp_path / "part-0", 0.0)
    assert len(tail.new()) == 0
    add(recorder, 0.2, [7])
    add(recorder, 0.4, [7], "late")
    assert tail.new()["error"].tolist() == [-1, 0]
    add(recorder, 0.6, [7], "late")
    assert tail.new()["error"].tolist() == [0]


def test_a_run_that_could_not_be_written_is_collected_later(tmp_path: Path) -> None:
    made = make_run(tmp_path, np.full(3, 20.0)).settings
    (tmp_path / PARTS).mkdir()
    (tmp_path / "run.json").rename(tmp_path / PARTS / "run.json")
    recorder = recorder_in(tmp_path / PARTS / "part-0", 0.0)
    add(recorder, 0.2, [7])
    add(recorder, 0.4, [8], "late")
    (tmp_path / "records.npz.partial").mkdir()
    with pytest.raises(LoadtestError, match=rf"records of its 2 requests are still in {tmp_path / PARTS}: make room"):
        finished_run(tmp_path)
    (tmp_path / "records.npz.partial").rmdir()
    run = finished_run(tmp_path)
    assert run.records.error.tolist() == [-1, 0]
    assert run.settings.ended_early
    assert run.settings.duration_s == pytest.approx(1.4)
    assert run.settings.profile == made.profile
    assert load_run(tmp_path).settings == run.settings


def test_nothing_at_all(tmp_path: Path) -> None:
    assert len(collect(tmp_path, PROFILE)) == 0
    assert started(tmp_path) is None
    assert not bound_reached(tmp_path)
    recorder_in(tmp_path / "part-0", 0.0).note_bound()
    assert bound_reached(tmp_path)
    assert len(collect(tmp_path, PROFILE)) == 0


def test_records_from_another_machine_are_those_written_here(tmp_path: Path) -> None:
    outbox, far = Outbox(), Part(tmp_path / "part-1", 0.0)
    for recorder in (recorder_in(tmp_path / "part-0", 0.0), Recorder(outbox.append)):
        add(recorder, 0.2, [7])
        add(recorder, 0.4, [8, 9], "late")
        recorder.note_bound()
    (block,) = outbox.take()
    for suffix, content in block.items():
        far.append(suffix, content)
    assert block.keys() >= {PICTURES, ERRORS}
    for suffix in block:
        assert (tmp_path / f"part-1{suffix}").read_bytes() == (tmp_path / f"part-0{suffix}").read_bytes()


def test_blocks_have_a_largest_size_and_there_is_always_one() -> None:
    outbox = Outbox()
    for _ in range(5):
        outbox.append(PICTURES, bytes(MOST_BYTES // 2))
    assert [len(block[PICTURES]) for block in outbox.take()] == [MOST_BYTES, MOST_BYTES, MOST_BYTES // 2]
    assert outbox.take() == [{}]
