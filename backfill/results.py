"""Files of results, their own figures in their footers, and the state of a folder of them."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from backfill.errors import InputError
from backfill.plan import READERS, Plan, part_file, read_plan
from backfill.storage import Place

ABOUT = b"altreco"
"""Key of a part's figures in its footer."""
RECENT_S = 600.0
"""The rate is that of the parts of the last ten minutes of work, so that a pause before does not count."""


@dataclass(frozen=True)
class About:
    """The figures of one part. Times are seconds since 1970."""

    rows: int
    errors: int
    releases: Mapping[str, int]
    """Pictures by the release that answered."""
    started: float
    ended: float


def about_rows(table: pa.Table, started: float) -> About:
    """Count the rows of a part that is finished now."""
    releases = Counter(release for release in table["release"].to_pylist() if release is not None)
    errors = len(table) - table["error"].null_count
    return About(len(table), errors, dict(sorted(releases.items())), started, time.time())


def write_part(file: Place, table: pa.Table, about: About) -> None:
    """Write a part with its figures, whole or not at all; raises OSError."""
    file.write_table(table.replace_schema_metadata({ABOUT: json.dumps(asdict(about)).encode()}))


def read_abouts(out: Place, names: Sequence[str]) -> list[About]:
    """Read the figures of parts; raises InputError for a file that is no part."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda name: _read_about(out / name), names))


def _read_about(file: Place) -> About:
    try:
        with file.system.open_input_file(file.path) as opened:
            return About(**json.loads((pq.read_metadata(opened).metadata or {})[ABOUT]))
    except (pa.ArrowInvalid, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{file.text}: expected a part of results, from the folder of --out and not of --encodings; if it is one, "
            f"it is damaged, so delete it: {error!r}"
        ) from error


@dataclass(frozen=True)
class Status:
    """How far all shards of a folder are."""

    plan: Plan
    parts: int
    rows: int
    errors: int
    releases: Mapping[str, int]
    per_s: float
    """Pictures a second of all shards, in the last ten minutes of work."""


def status(out: Place) -> Status:
    """Read a folder's plan and the footers of its parts. Raises InputError for a folder without a plan."""
    plan = read_plan(out)
    if plan is None:
        raise InputError(f"{out.text}: expected a folder of results, which `run` and `rerank` write; it has no plan")
    there = {*out.names()} & {part_file(number) for number in range(plan.parts)}
    parts = read_abouts(out, sorted(there))
    releases: Counter[str] = Counter()
    for part in parts:
        releases.update(part.releases)
    last = max((part.ended for part in parts), default=0.0)
    recent = [part for part in parts if part.ended >= last - RECENT_S]
    took_s = last - min((part.started for part in recent), default=last)
    return Status(
        plan=plan,
        parts=len(parts),
        rows=sum(part.rows for part in parts),
        errors=sum(part.errors for part in parts),
        releases=dict(sorted(releases.items())),
        per_s=sum(part.rows for part in recent) / took_s if took_s > 0 else 0.0,
    )
