"""What a comparison of a candidate with a release concludes from given figures."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl
import pytest

from export.acceptance import Acceptance, from_parquet, from_prometheus, p99_ms
from export.compare import (
    BETTER,
    LITTLE,
    SAME,
    WORSE,
    Comparison,
    Interval,
    Limits,
    Line,
    beside_line,
    bootstrap,
    share_difference,
    taken_line,
    wilson,
)
from export.errors import ExportError, ServerFailure


def line(worse_by: Interval | None, *, counts: bool = True) -> Line:
    return Line(name="x", release="", candidate="", worse_by=worse_by, allowed=0.02, counts=counts)


@pytest.mark.parametrize(
    ("worse_by", "result"),
    [
        ((-0.05, -0.01), BETTER),
        ((-0.01, 0.01), SAME),
        ((0.005, 0.015), SAME),
        ((0.01, 0.05), WORSE),
        ((-0.01, 0.05), LITTLE),
        ((-0.5, 0.5), LITTLE),
        ((float("nan"), float("nan")), LITTLE),
        (None, LITTLE),
    ],
)
def test_a_result_follows_from_the_interval_and_what_is_allowed(worse_by: Interval | None, result: str) -> None:
    assert line(worse_by).result == result


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([(-0.01, 0.01), (-0.05, -0.01)], 0),
        ([(-0.01, 0.01), (0.03, 0.05), None], 1),
        ([(-0.01, 0.01), None], 2),
    ],
)
def test_one_worse_line_decides_and_then_one_with_too_little(lines: list[Interval | None], code: int) -> None:
    compared = Comparison(7, 8, 0, (*map(line, lines), line((0.1, 0.2), counts=False)))
    assert compared.code == code
    assert str(compared).endswith(("result: better or equal", "result: worse", "result: too little yet")[code])


def test_intervals_of_shares_are_the_published_ones() -> None:
    """Newcombe's examples: Statistics in Medicine 17 (1998), 857 (method 3) and 873 (method 10)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert share_difference(48, 80, 56, 70) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


def users(count: int, rate: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    suggested = 5 * rng.integers(1, 20, count)
    return np.stack([suggested, rng.binomial(suggested, rng.beta(20 * rate, 20 * (1 - rate), count))], 1).astype(float)


def test_the_bootstrap_of_a_difference_is_as_wide_as_its_standard_error_says() -> None:
    one, other = users(400, 0.3, 0), users(300, 0.2, 1)
    low, high = taken_line(Acceptance(one, other, "users"), 0.02).worse_by or (0, 0)
    variance = 0.0
    for table in (one, other):  # the delta method for a ratio of sums
        ratio, n = table[:, 1].sum() / table[:, 0].sum(), len(table)
        variance += (table[:, 1] - ratio * table[:, 0]).var() / n / table[:, 0].mean() ** 2
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)
    assert low < 0.1 < high


def test_acceptance_is_judged_by_users_and_few_are_too_little() -> None:
    many, few = users(3000, 0.3, 0), users(40, 0.3, 1)
    assert taken_line(Acceptance(many, users(3000, 0.3, 2), "users"), 0.02).result == SAME
    assert taken_line(Acceptance(many, users(3000, 0.2, 2), "users"), 0.02).result == WORSE
    assert taken_line(Acceptance(many, users(3000, 0.4, 2), "users"), 0.02).result == BETTER
    assert taken_line(Acceptance(many, few, "users"), 0.02).result == LITTLE
    assert taken_line(Acceptance(many, few[:5], "users"), 0.02).worse_by is None
    assert bootstrap(lambda table: table[:, 0], np.empty((0, 2))) is None


@pytest.mark.parametrize("limit", [{"difference": -0.1}, {"slower": float("nan")}, {"slower": float("inf")}])
def test_a_limit_that_is_no_share_is_refused(limit: dict[str, float]) -> None:
    with pytest.raises(ExportError, match="expected a share"):
        Limits(**limit)


def test_a_candidate_that_slows_the_release_is_worse() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(30, 3, 100)
    assert beside_line(before, rng.normal(31, 3, 100), 0.2).result == SAME
    assert beside_line(before, rng.normal(60, 5, 100), 0.2).result == WORSE
    assert beside_line(before, before[:3], 0.2).result == LITTLE
    assert not beside_line(before[:0], before[:0], 0.2).counts  # Triton does not measure it


def test_acceptance_from_parquet_adds_up_each_user(tmp_path: Path) -> None:
    path = tmp_path / "accepted.parquet"
    rows = {"user": ["a", "a", "b", "c", "d"], "release": [7, 7, 8, 9, 7], "suggested": [5, 5, 5, 5, 0]}
    pl.DataFrame({**rows, "accepted": [1, 2, 3, 4, 0]}).write_parquet(path)
    found = from_parquet(path, 7, 8)
    assert (found.release.tolist(), found.candidate.tolist()) == ([[10, 3]], [[5, 3]])


@pytest.mark.parametrize(
    "columns",
    [
        {"user": ["a"], "release": ["7"], "suggested": [5]},
        {"user": ["a"], "release": ["7"], "suggested": [5], "accepted": [6]},
        {"user": ["a"], "release": ["7"], "suggested": [5], "accepted": ["x"]},
    ],
)
def test_a_file_that_holds_no_acceptance_is_refused(columns: dict[str, list[Any]], tmp_path: Path) -> None:
    path = tmp_path / "accepted.parquet"
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(ExportError, match=r"accepted\.parquet: expected"):
        from_parquet(path, 7, 8)
    with pytest.raises(ExportError, match=r"gone\.parquet"):
        from_parquet(tmp_path / "gone.parquet", 7, 8)


@contextmanager
def prometheus(answers: dict[str, list[tuple[dict[str, str], str]]]) -> Iterator[str]:
    """An HTTP server that answers range queries with a value a step, for the first key that the query holds."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            series = next((of for key, of in answers.items() if key in asked["query"]), [])
            moments = np.arange(float(asked["start"]), float(asked["end"]) + 1e-6, float(asked["step"])).tolist()
            result = [{"metric": of, "values": [[moment, value] for moment in moments]} for of, value in series]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "success", "data": {"result": result}}).encode())

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_acceptance_from_prometheus_is_by_spans_of_time() -> None:
    counters = {
        "altreco_suggested_total": [({"release": "7"}, "50"), ({"release": "8"}, "5")],
        "altreco_accepted_total": [({"release": "7"}, "20")],
        "quantile": [({}, "30.5")],
    }
    with prometheus(counters) as url:
        found = from_prometheus(url, 7, 8, since_s=3600)
        assert (found.release.tolist(), found.candidate.tolist()) == ([[50, 20]] * 60, [[5, 0]] * 60)
        before, since = p99_ms(url, 3600)
        assert (set(before), set(since)) == ({30.5}, {30.5})
        assert (len(before), len(since)) == (61, 60)
        assert from_prometheus(url, 7, 8, since_s=10).candidate.shape == (0, 2)  # shorter than a span
    with prometheus({"altreco": [({"release": "7"}, "NaN")]}) as url:
        assert from_prometheus(url, 7, 8, since_s=3600).release.shape == (0, 2)
    with pytest.raises(ServerFailure, match="does not answer as Prometheus does"):
        from_prometheus(url, 7, 8, since_s=3600)
