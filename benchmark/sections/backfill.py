"""A backfill against the client's own calls in threads, and what live callers notice of it."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from altreco_client import PreparedImage, TagRecommender, contract
from PIL import Image

from backfill.plan import read_manifest
from backfill.run import COLUMNS, Job, Options, Run
from backfill.storage import place
from backfill.tagging import tag_table
from benchmark.loads import served
from benchmark.settings import Settings
from export.full_size import folded
from measure.callers import Caller, calling
from measure.markdown import cell, ratios, table
from measure.requests import new_pictures
from measure.turns import by_turns

DEADLINE_S = 120.0
SHARE = 0.5
"""Share of the rate without a limit at which live callers are compared."""
LIVE_EVERY_S = 0.25
ALONE_WINDOWS = 4
"""How long the live caller is measured alone, in windows."""
THREADS, BACKFILL = "`recommend_batch` in threads", "`backfill run`"
ALONE, BESIDE, LIMITED = "nothing else", "a backfill without `--rate`", "a backfill at half its rate"


def measure_backfill(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Measure both, and the p99 of a live caller. Raises ExportError, ServerError and BackfillError."""
    images = _store(folder / "pictures", settings.backfill_pictures)
    repository, outs = folded(settings.preset, configs, folder), iter(range(10_000))
    with (
        served({"": repository}, 0) as servers,  # a stored picture is new: without a cache, every turn computes all
        TagRecommender(servers[""].grpc_url, deadline_s=DEADLINE_S) as client,
        TagRecommender(servers[""].grpc_url, deadline_s=DEADLINE_S) as live,
        ThreadPoolExecutor(Options.concurrency) as pool,
    ):

        def in_threads() -> float:
            size, started_s = contract.MAX_BATCH_SIZE, monotonic()
            batches = [images[start : start + size] for start in range(0, len(images), size)]
            list(pool.map(client.recommend_batch, batches))
            return len(images) / (monotonic() - started_s)

        def backfill(rate: float | None = None) -> float:
            started_s = monotonic()
            _run(client, folder / "pictures", folder / f"tags-{next(outs)}", rate)
            return len(images) / (monotonic() - started_s)

        for each in (client, live):
            each.recommend(images[0])
        per_s = by_turns({THREADS: in_threads, BACKFILL: backfill}, settings.rounds, title="backfill")
        half = SHARE * sorted(per_s[BACKFILL])[len(per_s[BACKFILL]) // 2]
        loads: dict[str, Callable[[], object]] = {
            ALONE: lambda: threading.Event().wait(ALONE_WINDOWS * settings.window_s),
            BESIDE: backfill,
            LIMITED: partial(backfill, half),
        }
        p99_ms = by_turns(
            {name: partial(_live_p99_ms, live, load) for name, load in loads.items()}, settings.rounds, title="live"
        )
    return {"pictures": len(images), "per_s": per_s, "live_p99_ms": p99_ms, "rate": half}


def _store(folder: Path, count: int) -> list[str]:
    """Write JPEGs of 500 x 375 and their manifest; return the paths."""
    folder.mkdir()
    names = [f"{i:05}.jpg" for i in range(count)]
    for name, picture in zip(names, new_pictures(0), strict=False):
        Image.fromarray(picture).resize((500, 375)).save(folder / name)
    pq.write_table(pa.table({"image": names}), folder / "pictures.parquet")
    return [str(folder / name) for name in names]


def _run(client: TagRecommender, pictures: Path, out: Path, rate: float | None) -> None:
    job = Job(
        manifest=read_manifest(place(str(pictures))),
        columns=COLUMNS,
        work=partial(tag_table, client=client, root=str(pictures)),
        out=place(str(out)),
    )
    Run(job, Options(rate=rate), client, lambda _: None, threading.Event()).all_parts()


def _live_p99_ms(client: TagRecommender, load: Callable[[], object]) -> float:
    """The p99 of a caller with a new picture now and then, during a load."""
    pictures: Iterator[PreparedImage] = map(PreparedImage, new_pictures())
    with calling([Caller(client.recommend, pictures)], every_s=LIVE_EVERY_S) as calls:
        load()
    return calls.percentile_ms(99)


def render_backfill(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    per_s: Mapping[str, Sequence[float]] = section["per_s"]
    share = cell(ratios(per_s[THREADS], per_s[BACKFILL]))
    return [
        f"{section['pictures']:,} JPEGs in each of {section['conditions']['rounds']} rounds, with "
        f"{Options.concurrency} batches of {contract.MAX_BATCH_SIZE} under way, no cache. Ratio per round: {share}.",
        "",
        *table(["", "pictures/s"], [[name, cell(values)] for name, values in per_s.items()]),
        "",
        f"A caller with a new picture every {1000 * LIVE_EVERY_S:g} ms, beside:",
        "",
        *table(["", "p99, ms"], [[name, cell(values)] for name, values in section["live_p99_ms"].items()]),
        "",
    ]
