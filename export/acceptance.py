"""What users took of the suggested tags, and the release's latency, from a Parquet file or Prometheus."""

import json
import math
import time
import urllib.parse
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError, ServerFailure
from measure.server import read

COLUMNS = ("user", "release", "suggested", "accepted")
LEAST_STEP_S = 60
STEPS = 200
P99 = 'avg(nv_inference_request_summary_us{job=~".+/tag-recommender", model="tag_recommender", quantile="0.99"}) / 1e3'


@dataclass(frozen=True)
class Acceptance:
    """Suggested and accepted tags, float64 [n, 2], of each user or each span of time: `unit` says which."""

    release: NDArray[np.float64]
    candidate: NDArray[np.float64]
    unit: str


def from_parquet(path: Path, release: int, candidate: int) -> Acceptance:
    """Read rows of `user, release, suggested, accepted`, and add up those of a user. Raises ExportError."""
    import polars as pl  # noqa: PLC0415 - takes longer to import than most commands run

    try:
        rows = pl.scan_parquet(path).select(
            pl.col("user").cast(pl.String), pl.col("release").cast(pl.String), *map(pl.col, COLUMNS[2:])
        )
        tables = [
            rows.filter(pl.col("release") == str(number)).group_by("user").agg(pl.sum(*COLUMNS[2:])).collect()
            for number in (release, candidate)
        ]
        one, other = (table.select(COLUMNS[2:]).cast(pl.Float64).to_numpy() for table in tables)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ExportError(f"{path}: expected Parquet with {', '.join(COLUMNS)}: {error}") from error
    for table in (one, other):
        if not ((table >= 0).all() and (table[:, 1] <= table[:, 0]).all()):
            raise ExportError(f"{path}: expected 0 <= accepted <= suggested for each user")
    return Acceptance(one[one[:, 0] > 0], other[other[:, 0] > 0], "users")


def from_prometheus(url: str, release: int, candidate: int, since_s: int) -> Acceptance:
    """Ask Prometheus for the counters of `accepted()` since a time, by spans of time: it knows no users.

    Raises ServerFailure.
    """
    now, step_s, columns = int(time.time()), _step_s(since_s), []
    for name in ("altreco_suggested_total", "altreco_accepted_total"):
        query = f'sum by (release) (increase({name}{{release=~"{release}|{candidate}"}}[{step_s}s]))'
        columns.append(_range(url, query, now - since_s + step_s, now, step_s))
    tables = []
    for number in map(str, (release, candidate)):
        suggested, accepted = (column.get(number, {}) for column in columns)
        rows = [(count, accepted.get(moment, 0.0)) for moment, count in suggested.items() if count > 0]
        tables.append(np.array(rows, dtype=np.float64).reshape(-1, 2))
    return Acceptance(tables[0], tables[1], f"spans of {step_s} s")


def p99_ms(url: str, since_s: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ask Prometheus for the release's p99, ms, at times before a start and as long after it. Raises ServerFailure."""
    now, step_s = int(time.time()), _step_s(since_s)
    spans = ((now - 2 * since_s, now - since_s), (now - since_s + step_s, now))
    before, since = (_range(url, P99, *span, step_s).get("", {}) for span in spans)
    return np.array([*before.values()]), np.array([*since.values()])


def _step_s(since_s: int) -> int:
    return max(LEAST_STEP_S, since_s // STEPS)


def _range(url: str, query: str, start_s: int, end_s: int, step_s: int) -> dict[str, dict[float, float]]:
    """Values by release and time."""
    if end_s < start_s:
        return {}
    parameters = urllib.parse.urlencode({"query": query, "start": start_s, "end": end_s, "step": step_s})
    try:
        answer = json.loads(read(f"{url.rstrip('/')}/api/v1/query_range?{parameters}"))
        series = {
            each["metric"].get("release", ""): {float(at): float(value) for at, value in each["values"]}
            for each in answer["data"]["result"]
        }
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise ServerFailure(f"{url} does not answer as Prometheus does: {type(error).__name__}: {error}") from error
    return {
        release: {at: value for at, value in values.items() if not math.isnan(value)}
        for release, values in series.items()
    }
