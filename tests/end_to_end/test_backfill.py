"""Backfills through a real Triton: shards, SIGKILL, bad pictures, kept encodings, a server that comes back."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from altreco_client import Recommendation, TagRecommender, contract

from backfill.__main__ import main
from backfill.plan import read_manifest
from backfill.run import COLUMNS, Job, Options, Run
from backfill.storage import place
from backfill.tagging import tag_table
from deploy.access import PLAIN
from measure.server import counters, grown
from measure.waiting import wait_until
from reliability.servers import addresses, kill
from tests.backfill.stored import parts, results, started, write_picture, write_rows, written_at
from tests.end_to_end.conftest import Served
from tests.servers import serving
from tests.tiny import TAGS

ROWS, GROUP, PICTURES = 96, 16, 6
BAD = {3: "cut.jpg", 35: "missing.jpg", 67: "notes.jpg"}
"""One in each batch of 32."""
HISTORIES = {"ana": {"tag-7": 3.0, "tag-8": 1.0}, "ben": {"tag-1": 2.0, "unheard-of": 5.0}}
NEW = {"ana": {"tag-900": 9.0}, "ben": {"tag-7": 1.0}}
SCORES, FP16_SCORES = 1e-3, 5e-2
"""Largest differences: batches of other sizes round otherwise, and the tiny model has huge weights. Many of its tags
have nearly the same score, so that all of them are compared, not the five best."""


@dataclass(frozen=True)
class Stored:
    """Two manifest files, three parts of 32 rows; some users have a history."""

    folder: Path
    url: str
    rows: list[dict[str, Any]]

    def run(self, out: Path, *options: object, command: str = "run") -> int:
        return main([str(each) for each in self.arguments(out, *options, command=command)])

    def arguments(self, out: Path, *options: object, command: str = "run") -> list[object]:
        source = ["--manifest", self.folder / "pictures", "--part-rows", 32] if command == "run" else []
        histories = ["--histories", self.folder / "histories.parquet"] if "--histories" not in options else []
        server = ["--url", self.url, "--k", TAGS]
        return [command, *source, *histories, "--out", out, *server, "--keep-going", 0.1, *options]

    def expected(self, recommender: TagRecommender, histories: dict[str, dict[str, float]]) -> list[Recommendation]:
        """What the client says for every fifth good picture, one by one."""
        return [
            recommender.recommend(
                self.folder / "pictures" / row["image"], histories.get(row["user"]), TAGS, unknown_tags="ignore"
            )
            for row in [row for row in self.rows if row["image"] not in BAD.values()][::5]
        ]


@pytest.fixture(scope="module")
def stored(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("stored")
    (folder / "pictures").mkdir()
    for seed in range(PICTURES):
        write_picture(folder / "pictures" / f"{seed}.jpg", seed)
    whole = (folder / "pictures" / "0.jpg").read_bytes()
    (folder / "pictures" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "pictures" / "notes.jpg").write_text("no picture")
    rows = [
        {"id": f"id-{i}", "image": BAD.get(i, f"{i % PICTURES}.jpg"), "user": ("ana", "ben", "eve", None)[i % 4]}
        for i in range(ROWS)
    ]
    for name, some in (("a", rows[:48]), ("b", rows[48:])):
        write_rows(folder / "pictures" / f"{name}.parquet", some, group=GROUP)
    for name, histories in (("histories", HISTORIES), ("new", NEW)):
        counts = [
            {"user": user, "tag": tag, "count": count}
            for user, tags in histories.items()
            for tag, count in tags.items()
        ]
        write_rows(folder / f"{name}.parquet", counts, group=10)
    return Stored(folder, served.server.grpc_url, rows)


@pytest.fixture(scope="module")
def encoded(stored: Stored, served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished `run --encodings`: the folders `tags` and `encodings`."""
    folder = tmp_path_factory.mktemp("kept")
    assert stored.run(folder / "tags", "--encodings", folder / "encodings", "--repository", served.repository) == 0
    return folder


def scores(answer: Recommendation) -> dict[str, float]:
    return {tag.name: tag.score for tag in answer.tags}


def assert_same(rows: list[dict[str, Any]], expected: list[Recommendation], tolerance: float) -> None:
    """Compare the good rows with what is expected of every fifth."""
    good = [row for row in rows if row["error"] is None]
    assert len(good) == ROWS - len(BAD)
    for row, answer in zip(good[::5], expected, strict=True):
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert dict(zip(row["tags"], row["scores"], strict=True)) == pytest.approx(scores(answer), abs=tolerance)
        assert row["release"] == answer.model_version


def test_each_row_has_the_clients_tags_and_a_bad_picture_spoils_only_its_own(
    stored: Stored, recommender: TagRecommender, tmp_path: Path
) -> None:
    assert stored.run(tmp_path / "tags") == 0
    rows = results(tmp_path / "tags")
    assert [(row["id"], row["user"]) for row in rows] == [(row["id"], row["user"]) for row in stored.rows]
    bad = {i: row for i, row in enumerate(rows) if row["error"] is not None}
    assert set(bad) == set(BAD)
    for row in bad.values():
        assert row["error"].startswith("InvalidImage: ")
        assert (row["tags"], row["scores"], row["release"]) == (None, None, None)
    assert_same(rows, stored.expected(recommender, HISTORIES), SCORES)


def test_two_shards_are_killed_and_go_on_with_no_row_lost_or_doubled(stored: Stored, tmp_path: Path) -> None:
    out = tmp_path / "tags"
    shards = [("--part-rows", GROUP, "--shard", f"{i}/2") for i in range(2)]
    slow = [started(*stored.arguments(out, *shard, "--rate", 16)) for shard in shards]
    wait_until(lambda: len(parts(out)) >= 2, "two parts")
    for process in slow:
        process.kill()
        process.communicate()
    before = written_at(out)
    assert 2 <= len(before) < ROWS // GROUP
    again = [started(*stored.arguments(out, *shard)) for shard in shards]
    assert [(process.communicate(timeout=60), process.returncode)[1] for process in again] == [0, 0]
    assert [row["id"] for row in results(out)] == [row["id"] for row in stored.rows]
    assert written_at(out).items() >= before.items(), "what is there is done"
    assert not list(out.glob("*.partial"))


def test_reranking_equals_the_whole_ensemble_without_the_visual_encoder(
    stored: Stored, served: Served, encoded: Path, recommender: TagRecommender, tmp_path: Path
) -> None:
    assert_same(results(encoded / "tags"), stored.expected(recommender, HISTORIES), SCORES)
    expected = stored.expected(recommender, NEW)
    assert scores(expected[0]) != pytest.approx(scores(stored.expected(recommender, HISTORIES)[0]), abs=FP16_SCORES)
    options = ("--histories", stored.folder / "new.parquet", "--encodings", encoded / "encodings")
    with PLAIN.connect(stored.url) as client:
        recommender.recommend(stored.folder / "pictures" / "0.jpg")  # the cached answer of the command's own question
        before = counters(client)
        assert stored.run(tmp_path / "tags", *options, "--repository", served.repository, command="rerank") == 0
        rows = ROWS - len(BAD)  # Triton counts a request after its answer
        wait_until(lambda: grown(before, counters(client), contract.CLASSIFIER, "rows") >= rows, "the count")
        after = counters(client)
    assert grown(before, after, contract.VISUAL_ENCODER, "rows") <= 2, "the questions for vocabulary and release"
    rows = results(tmp_path / "tags")
    assert [row["id"] for row in rows] == [row["id"] for row in stored.rows]
    assert [row["error"] for row in rows] == [row["error"] for row in results(encoded / "tags")]
    assert_same(rows, expected, FP16_SCORES)


def test_encodings_of_another_visual_encoder_are_refused(
    stored: Stored, served: Served, encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "models" / "tag_recommender" / "1" / "release.json"
    record.parent.mkdir(parents=True)
    values = json.loads((served.repository / "tag_recommender" / "1" / "release.json").read_text())
    values["files"]["visual_encoder/1/model.onnx"] = "0" * 64
    record.write_text(json.dumps(values))
    options = ("--encodings", encoded / "encodings", "--repository")
    assert stored.run(tmp_path / "tags", *options, tmp_path / "models", command="rerank") == 2
    assert "release 1 has the visual encoder 000000000000" in capsys.readouterr().err
    assert stored.run(tmp_path / "tags", *options, tmp_path / "nothing", command="rerank") == 2
    assert "name the server's model repository with --repository" in capsys.readouterr().err
    assert not parts(tmp_path / "tags")


def test_unfinished_encodings_are_refused(
    stored: Stored, served: Served, encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(encoded / "encodings", tmp_path / "encodings")
    (copied / "part-00001.parquet").unlink()
    options = ("--encodings", copied, "--repository", served.repository)
    assert stored.run(tmp_path / "tags", *options, command="rerank") == 2
    assert "1 of 3 parts are missing" in capsys.readouterr().err
    assert stored.run(tmp_path / "tags", "--encodings", encoded / "tags", command="rerank") == 2
    assert "expected a folder of encodings" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_costs_no_row(stored: Stored, served: Served, tmp_path: Path) -> None:
    out, lines = tmp_path / "tags", list[str]()
    with serving(served.repository) as first, TagRecommender(first.grpc_url) as client, ThreadPoolExecutor(1) as pool:
        job = Job(
            manifest=read_manifest(place(str(stored.folder / "pictures"))),
            columns=COLUMNS,
            work=lambda table: tag_table(table, client, root=str(stored.folder / "pictures")),
            out=place(str(out)),
        )
        options = Options(part_rows=GROUP, rate=16, keep_going=0.1)
        run = pool.submit(Run(job, options, client, lines.append, threading.Event()).all_parts)
        wait_until(lambda: len(parts(out)) >= 1, "a part")
        at = addresses(first)
        kill(first)
        wait_until(lambda: any("tried again" in line for line in lines), "that the client's retries are not enough")
        with serving(served.repository, **at):
            run.result(timeout=120)
    assert [row["id"] for row in results(out)] == [row["id"] for row in stored.rows]
    assert [i for i, row in enumerate(results(out)) if row["error"]] == list(BAD)
