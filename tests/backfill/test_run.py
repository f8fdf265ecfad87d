"""A run's behaviour towards a server in this process: limits, stops and resumption."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from altreco_client import TagRecommender
from tritonclient.grpc import service_pb2 as pb

from backfill.__main__ import main
from backfill.errors import BackfillError
from backfill.plan import read_manifest
from backfill.run import COLUMNS, Job, Options, Run
from backfill.storage import place
from backfill.tagging import tag_table
from measure.waiting import wait_until
from tests.backfill.stored import parts, results, started, write_manifest, write_rows, written_at
from tests.client.odd_server import Odd, closed_port, honest, serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Odd()) as address:
        yield address


def backfill(manifest: Path, url: str, *options: object) -> int:
    given = ["run", "--manifest", manifest, "--out", manifest.parent / "tags", "--url", url, "--k", 2]
    return main([str(each) for each in (*given, *options)])


def test_every_row_is_answered_once(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_manifest(tmp_path, 41)
    assert backfill(manifest, url, "--part-rows", 16) == 0
    rows = results(tmp_path / "tags")
    assert [row["id"] for row in rows] == [f"{i}" for i in range(41)]
    assert {(*row["tags"], *row["scores"], row["release"], row["error"]) for row in rows} == {
        ("sea", "beach", 1.0, 0.75, "1", None)
    }
    assert "41 of 41 pictures, 0 with an error" in capsys.readouterr().err
    assert main(["status", "--out", str(tmp_path / "tags")]) == 0
    said = capsys.readouterr().out
    assert "parts     3 of 3\npictures  41 of 41\nerrors    0\nreleases  1: 41 pictures\nrate" in said
    before = written_at(tmp_path / "tags")
    assert backfill(manifest, url, "--part-rows", 16) == 0
    assert written_at(tmp_path / "tags") == before, "what is there is done"


def test_another_manifest_or_k_on_the_same_folder_is_refused(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(tmp_path, 8)
    assert backfill(manifest, url) == 0
    before = written_at(tmp_path / "tags")
    assert backfill(manifest, url, "--k", 3) == 2
    assert "k 2 there, 3 now" in capsys.readouterr().err
    assert backfill(write_manifest(tmp_path, 9), url) == 2
    assert "rows 8 there, 9 now" in capsys.readouterr().err
    assert written_at(tmp_path / "tags") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", 5], "--k is 5: expected 1 to 4"),
        (["--shard", "2/2"], "--shard is 2/2: expected the first to be 0 to 1"),
        (["--rate", 0], "--rate is 0.0: expected"),
        (["--concurrency", 0], "--concurrency is 0: expected 1 or more"),
        (["--histories", "none"], "--histories needs a manifest with a column user"),
        (["--key", "key.pem"], "--certificate and --key belong together"),
    ],
)
def test_impossible_options_are_refused(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[object], message: str
) -> None:
    assert backfill(write_manifest(tmp_path, 1), url, *options) == 2
    assert message in capsys.readouterr().err
    assert not parts(tmp_path / "tags")


def test_too_many_errors_stop_it_and_the_part_is_not_done(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(tmp_path, 32)
    write_rows(manifest, [{"image": "no.jpg" if i in (3, 20, 21) else "photo.jpg"} for i in range(32)], group=16)
    assert backfill(manifest, url, "--part-rows", 16, "--keep-going", 0.07) == 1
    said = capsys.readouterr().err
    assert "3 of 32 pictures have an error, a larger share than --keep-going 0.07" in said
    assert "Correct them, or raise it" in said
    assert "no.jpg: InvalidImage: cannot read" in said
    assert len(parts(tmp_path / "tags")) == 1
    assert backfill(manifest, url, "--part-rows", 16, "--keep-going", 0.1) == 0
    assert [row["id"] for row in results(tmp_path / "tags") if row["error"]] == ["no.jpg"] * 3


def test_folders_that_cannot_be_used_are_refused_before_anything_is_written(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(tmp_path, 4)
    assert backfill(manifest, url, "--encodings", f"{tmp_path / 'tags'}/") == 2
    assert "--encodings and --out are both" in capsys.readouterr().err
    assert not (tmp_path / "tags").exists()
    (tmp_path / "tags").touch()
    assert backfill(manifest, url) == 2


def test_a_change_of_release_is_told_or_stops_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = Odd()

    def answer(rows: int, k: int) -> pb.ModelInferResponse:
        given = honest(rows, k)
        given.model_version = "1" if len(odd.asked) < 5 else "2"
        return given

    odd.answer = answer
    manifest = write_manifest(tmp_path, 32)
    with serving(odd) as url:
        assert backfill(manifest, url, "--part-rows", 8, "--concurrency", 1, "--same-release") == 1
        assert "release 2 answered, and the first parts are of 1: --same-release" in capsys.readouterr().err
        assert {row["release"] for row in results(tmp_path / "tags")} == {"1"}
        assert backfill(manifest, url, "--part-rows", 8) == 0
    assert main(["status", "--out", str(tmp_path / "tags")]) == 0
    releases = [row["release"] for row in results(tmp_path / "tags")]
    assert f"1: {releases.count('1')} pictures, 2: {releases.count('2')} pictures" in capsys.readouterr().out


def test_the_rate_of_all_shards_is_exceeded_by_the_first_batch_at_most(url: str, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, 64, group=64)
    rate, asked = 100.0, list[tuple[float, int]]()
    with TagRecommender(url) as client:

        def work(table: pa.Table) -> pa.Table:
            asked.append((time.monotonic(), len(table)))
            return tag_table(table, client, 2, root=str(tmp_path))

        job = Job(read_manifest(place(str(manifest))), COLUMNS, work, place(str(tmp_path / "tags")))
        options = Options(k=2, rate=2 * rate, shard=(0, 2))
        begun = time.monotonic()
        Run(job, options, client, print, threading.Event()).all_parts()
    assert sum(rows for _, rows in asked) == 64
    for moment, _ in asked:
        assert sum(rows for at, rows in asked if at <= moment) <= rate * (moment - begun) + 32


def test_a_low_rate_has_no_bursts() -> None:
    assert Options(rate=16, shard=(3, 4)).batch == 4
    assert Options(rate=0.5).batch == 1
    assert Options(rate=1000).batch == Options().batch == 32


def test_a_server_that_stays_away_ends_it(url: str, tmp_path: Path) -> None:
    manifest = read_manifest(place(str(write_manifest(tmp_path, 8))))
    lines: list[str] = []
    with TagRecommender(closed_port(), deadline_s=0.3) as client:
        job = Job(manifest, COLUMNS, lambda table: tag_table(table, client), place(str(tmp_path / "tags")))
        with pytest.raises(BackfillError, match="the server failed for 5 s; what is written stays"):
            Run(job, Options(patience_s=5), client, lines.append, threading.Event()).all_parts()
    assert lines[0].startswith("the server is tried again in 1 s: ")


def test_sigterm_finishes_the_batches_under_way_and_drops_the_part(url: str, tmp_path: Path) -> None:
    manifest, out = write_manifest(tmp_path, 80), tmp_path / "tags"
    given = ("run", "--manifest", manifest, "--out", out, "--url", url, "--k", 2, "--part-rows", 8)
    process = started(*given, "--rate", 8)  # a part a second, ten in all
    wait_until(lambda: len(parts(out)) >= 1, "a part")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1][:7]) == (143, "stopped")
    assert 1 <= len(parts(out)) < 10
    assert not list(out.glob("*.partial"))
    assert main([str(each) for each in given]) == 0
    assert [row["id"] for row in results(out)] == [f"{i}" for i in range(80)]
