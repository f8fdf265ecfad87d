"""Work through a manifest, part by part: ask, write the part, go on. What is written is done."""

import threading
import time
from collections.abc import Callable, Sized
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
from altreco_client import (
    DeadlineExceeded,
    Overloaded,
    PreparedImage,
    ServerFailed,
    TagRecommender,
    Unavailable,
    contract,
)

from backfill.errors import BackfillError, InputError, Terminated
from backfill.histories import ParquetHistories, StoredHistories, with_histories
from backfill.pace import Pace, Progress
from backfill.plan import Manifest, Part, Plan
from backfill.releases import VisualEncoders
from backfill.results import about_rows, read_abouts, write_part
from backfill.storage import Place
from backfill.tagging import ENCODING, SCHEMA

T = TypeVar("T")

AGAIN = (Unavailable, DeadlineExceeded, Overloaded, ServerFailed, OSError)
"""Errors after which a part is tried again. The client has tried most of them several times itself."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
SHOWN_ERRORS = 3
COLUMNS = ("id", "image", "user", "history")
"""Columns of a manifest of pictures."""
KEPT = ["id", "user", ENCODING.name, "error"]
"""Columns of kept encodings."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to work. Raises InputError for impossible values."""

    k: int = 5
    part_rows: int = 10_000
    concurrency: int = 4
    """Batches that are under way at once."""
    rate: float | None = None
    """Most pictures a second of all shards together."""
    shard: tuple[int, int] = (0, 1)
    """This shard's number, from 0, and how many there are."""
    keep_going: float = 0.01
    """Largest share of rows with an error."""
    same_release: bool = False
    patience_s: float = 600.0
    """How long a part is tried again without an answer."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("k", "part_rows", "concurrency"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}: expected 1 or more")
        if self.rate is not None and not self.rate > 0:
            raise InputError(f"--rate is {self.rate}: expected a number of pictures a second above 0")
        if not 0 <= self.keep_going <= 1:
            raise InputError(f"--keep-going is {self.keep_going}: expected a share from 0 to 1")
        number, shards = self.shard
        if not 0 <= number < shards:
            raise InputError(
                f"--shard is {number}/{shards}: expected the first to be 0 to {shards - 1}, as in 0/{shards}"
            )

    @property
    def own_rate(self) -> float | None:
        """Most pictures a second of this shard."""
        return None if self.rate is None else self.rate / self.shard[1]

    @property
    def batch(self) -> int:
        """Pictures in a request: no more than a second's worth, so that a low rate has no bursts."""
        rate, most = self.own_rate, contract.MAX_BATCH_SIZE
        return most if rate is None else min(most, max(1, int(rate)))


@dataclass(frozen=True)
class Job:
    """Which pictures, what to do with a batch of them, and where the results go."""

    manifest: Manifest
    columns: tuple[str, ...]
    """Those to read from it, where they are there."""
    work: Callable[[pa.Table], pa.Table]
    """Turns a batch into rows of SCHEMA, with the column ENCODING if encodings are kept."""
    out: Place
    histories: ParquetHistories | StoredHistories | None = None
    encoders: VisualEncoders | None = None
    """Set if encodings are kept or used."""
    keep: Place | None = None
    """Folder to keep encodings in."""
    encoder_sha256: str | None = None
    """The visual encoder of the encodings that are used; None: of those that the first release makes."""


@dataclass(frozen=True)
class State:
    """What all parts share."""

    pace: Pace
    progress: Progress


@dataclass(frozen=True)
class Run:
    """A job under way. `stop` ends it; `say` prints a line."""

    job: Job
    options: Options
    client: TagRecommender
    say: Callable[[str], None]
    stop: threading.Event

    def all_parts(self) -> None:
        """Do the parts of this shard that are not there yet.

        Raises InputError for a folder with other results, Terminated after `stop`, and BackfillError for too many rows
        with an error, a server that stays away, or another release with `same_release`.
        """
        out, options = self.job.out, self.options
        every = self.job.manifest.parts(options.part_rows)
        if (largest := max((part.rows for part in every), default=0)) > options.part_rows:
            self.say(
                f"a part has {largest:,} rows, because a part is whole row groups, and all of them are lost when it is "
                f"stopped: better write the manifest with row groups of at most {options.part_rows:,} rows"
            )
        plan = self._plan(len(every))
        own = every[options.shard[0] :: options.shard[1]]
        there = set(out.names())
        finished = read_abouts(out, [part.file for part in own if part.file in there])
        missing = [part for part in own if part.file not in there]
        shard = f" of shard {options.shard[0]}/{options.shard[1]}" if options.shard[1] > 1 else ""
        self.say(f"{out.text}: {len(finished)} of {len(own)} parts{shard} are there")
        state = State(Pace(options.own_rate), Progress(own, finished))
        with ThreadPoolExecutor(options.concurrency) as pool:
            for part in missing:
                for place in self._places():
                    (place / part.file).delete_partial()
                self._part(part, plan, state, pool)

    def _plan(self, parts: int) -> Plan:
        """Ask the server for its release, and check the folders' plans. Raises InputError."""
        job, release = self.job, self._patiently(self._release, "the server")
        encodings = job.encoder_sha256
        if job.encoders:
            encodings = encodings or job.encoders.sha256(release)
            job.encoders.check(release, encodings)
        plan = Plan(
            manifest_sha256=job.manifest.sha256(),
            rows=job.manifest.rows,
            parts=parts,
            part_rows=self.options.part_rows,
            k=self.options.k,
            encodings=encodings,
            release=release,
        )
        for place in self._places():  # before anything is written to one of them
            plan.found_in(place)
        return [plan.keep(place) for place in self._places()][-1]

    def _places(self) -> list[Place]:
        """The folders that are written to."""
        return [*([self.job.keep] if self.job.keep else []), self.job.out]

    def _release(self) -> str:
        n, k = len(self.client.vocabulary), self.options.k
        if k > n:
            raise InputError(f"--k is {k}: expected 1 to {n}, the size of the server's vocabulary")
        blank = PreparedImage(np.zeros(contract.IMAGE.dims, dtype=np.uint8))
        return str(self.client.recommend(blank, k=1).model_version)

    def _part(self, part: Part, plan: Plan, state: State, pool: ThreadPoolExecutor) -> None:
        started, done = time.time(), dict[int, pa.Table]()
        self._patiently(lambda: self._attempt(part, plan, state, pool, done), f"part {part.number}", done)
        table = pa.concat_tables([done[start] for start in sorted(done)])
        keep = self.job.keep
        if keep:  # before the tags, which say that the part is done
            kept = table.select(KEPT)
            self._patiently(lambda: (keep / part.file).write_table(kept), f"part {part.number}")
        tags = table.select(SCHEMA.names)
        about = about_rows(tags, started)
        self._patiently(lambda: write_part(self.job.out / part.file, tags, about), f"part {part.number}")
        state.progress.finished(about)
        self.say(f"part {part.number} is done: {state.progress}")

    def _attempt(
        self, part: Part, plan: Plan, state: State, pool: ThreadPoolExecutor, done: dict[int, pa.Table]
    ) -> None:
        """Ask for the batches of a part that are not in `done`, by their first rows."""
        rows, size = self.job.manifest.read(part, self.job.columns), self.options.batch
        if self.job.histories:
            rows = with_histories(rows, self.job.histories)
        starts = [start for start in range(0, len(rows), size) if start not in done]
        futures = {pool.submit(self._batch, rows.slice(start, size), plan, state): start for start in starts}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                state.progress.batch(len(done[futures[future]]))
                self._check_errors(part, state, done)
                if state.progress.due():
                    self.say(f"part {part.number}: {state.progress}")
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def _batch(self, rows: pa.Table, plan: Plan, state: State) -> pa.Table:
        """Work on one batch, in a thread of its own."""
        state.pace.wait(len(rows), self.stop)
        if self.stop.is_set():
            raise Terminated("the part under way is dropped")
        result = self.job.work(rows)
        for release in {*result["release"].to_pylist()} - {None}:
            if self.job.encoders and plan.encodings:
                self.job.encoders.check(release, plan.encodings)
            if self.options.same_release and release != plan.release:
                raise BackfillError(
                    f"release {release} answered, and the first parts are of {plan.release}: --same-release stops here"
                )
        return result

    def _check_errors(self, part: Part, state: State, done: dict[int, pa.Table]) -> None:
        """Raise BackfillError if the share of rows with an error will be too large, whatever is still to come."""
        failed = sum(len(table) - table["error"].null_count for table in done.values())
        rows, errors = state.progress.rows + part.rows, state.progress.errors + failed
        if errors > self.options.keep_going * rows:
            wrong = [
                row for table in done.values() for row in table.select(["id", "error"]).to_pylist() if row["error"]
            ]
            shown = "; ".join(f"{row['id']}: {row['error']}" for row in wrong[:SHOWN_ERRORS])
            raise BackfillError(
                f"{errors:,} of {rows:,} pictures have an error, a larger share than --keep-going "
                f"{self.options.keep_going:g}; part {part.number} is dropped. Correct them, or raise it. The first "
                f"ones: {shown}"
            )

    def _patiently(self, task: Callable[[], T], what: str, done: Sized = ()) -> T:
        """Run a task again while it fails for a reason that may pass and `done` grows, or for `patience_s`."""
        pause_s, since, had = FIRST_PAUSE_S, time.monotonic(), len(done)
        while True:
            try:
                return task()
            except AGAIN as error:
                if len(done) > had:
                    pause_s, since, had = FIRST_PAUSE_S, time.monotonic(), len(done)
                if time.monotonic() + pause_s - since > self.options.patience_s:
                    raise BackfillError(
                        f"{what} failed for {self.options.patience_s:g} s; what is written stays: {error}"
                    ) from error
                self.say(f"{what} is tried again in {pause_s:g} s: {error}")
            if self.stop.wait(pause_s):
                raise Terminated("the part under way is dropped")
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
