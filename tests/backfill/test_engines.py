"""The core in another engine, as docs/backfill.md has it, and beside the client's own calls in threads."""

import functools
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from altreco_client import TagRecommender

from backfill.__main__ import main
from tests.backfill.stored import ROOT, results, write_manifest, write_picture, write_rows
from tests.client.odd_server import Odd, serving

PAGE = ROOT / "docs" / "backfill.md"


def snippets() -> dict[str, str]:
    """The page's examples, by the engine that their first line names."""
    found = re.findall(r"^```python\n(# (\S+).*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return {engine: text for text, engine in found}


def test_every_engine_has_an_example_that_is_python() -> None:
    assert set(snippets()) == {"Dask", "Ray", "Spark"}
    for engine, text in snippets().items():
        compile(text, engine, "exec")


@pytest.mark.slow
def test_the_example_for_dask_gives_what_a_run_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "photo.jpg")
    manifest = write_rows(
        tmp_path / "pictures.parquet",
        [{"id": f"{i}", "image": "photo.jpg", "history": {"sea": i}} for i in range(70)],
        group=8,
        id=pa.string(),
        image=pa.string(),
        history=pa.map_(pa.string(), pa.float64()),
    )
    with serving(Odd()) as url:
        assert (
            main(["run", "--manifest", str(manifest), "--out", str(tmp_path / "tags"), "--url", url, "--k", "2"]) == 0
        )
        monkeypatch.chdir(tmp_path)
        text = snippets()["Dask"].replace("localhost:8001", url).replace("k=5", "k=2")
        names: dict[str, Any] = {}
        exec(compile(text.replace("pictures/", f"{manifest}"), "Dask", "exec"), names)
    assert names["rows"] == results(tmp_path / "tags")


@pytest.mark.slow
@pytest.mark.timing
def test_it_is_nearly_as_fast_as_the_client_in_threads(tmp_path: Path) -> None:
    manifest, threads, batch = write_manifest(tmp_path, 640, group=640), 4, 32
    images = [str(tmp_path / image) for image in pq.read_table(manifest)["image"].to_pylist()]
    with serving(Odd()) as url, TagRecommender(url, deadline_s=60) as client, ThreadPoolExecutor(threads) as pool:
        client.recommend(images[0], k=2)

        def in_threads(_: Path) -> None:
            batches = [images[start : start + batch] for start in range(0, len(images), batch)]
            list(pool.map(functools.partial(client.recommend_batch, k=2), batches))

        def backfill(out: Path) -> None:
            given = ["run", "--manifest", manifest, "--out", out, "--url", url, "--k", 2]
            assert main([str(each) for each in given]) == 0

        seconds: dict[str, list[float]] = {"threads": [], "backfill": []}
        for turn in range(3):
            for name, ask in (("threads", in_threads), ("backfill", backfill)):
                started_s = time.monotonic()
                ask(tmp_path / f"tags-{turn}")
                seconds[name].append(time.monotonic() - started_s)
    assert min(seconds["threads"]) / min(seconds["backfill"]) > 0.9, seconds
