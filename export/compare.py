"""Compare a candidate with the served release: failures, latency, answers, and which of their tags users take.

Each quantity gets the interval (95 %) by which the candidate is worse. It is worse if the interval is above zero and
reaches beyond what is allowed, and as good as the release if the interval ends below that. Otherwise it is too little
yet.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from altreco_client import contract
from altreco_client.checks import checked_whole
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from deploy.access import PLAIN, Access
from export.acceptance import Acceptance, p99_ms
from export.canary import STARTED, releases, the_candidate, the_served
from export.errors import ExportError, ReleaseError
from export.golden import Inputs
from export.repository import load_release
from export.served import DEADLINE_S, connected, ensemble_recommender
from measure.callers import percentile
from measure.server import counters

K = 5
RESAMPLES, LEAST = 1000, 30
"""Resamples of a bootstrap, and the fewest users, pictures or times for which there is one."""
Z = 1.96
FAILURES_ALLOWED = 0.01
OTHERS_ALLOWED = 0.05
"""Share of requests with other tags up to which the candidate's answers count as the release's."""
SAME, BETTER, WORSE, LITTLE = "equal", "better", "worse", "too little yet"
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One compared quantity. `worse_by` is None if there are too few values; `counts` is False for information only."""

    name: str
    release: str
    candidate: str
    worse_by: Interval | None
    allowed: float
    counts: bool = True

    @property
    def result(self) -> str:
        """One of better, equal, worse and too little yet."""
        if self.worse_by is None or any(map(math.isnan, self.worse_by)):
            return LITTLE
        low, high = self.worse_by
        if high <= self.allowed:
            return BETTER if high < 0 else SAME
        return WORSE if low > 0 else LITTLE

    def cells(self) -> tuple[str, ...]:
        """Format the line for a table."""
        by = "-" if self.worse_by is None else f"{self.worse_by[0]:+.3f} to {self.worse_by[1]:+.3f}"
        allowed, result = (f"{self.allowed:g}", self.result) if self.counts else ("-", "-")
        return self.name, self.release, self.candidate, by, allowed, result


@dataclass(frozen=True)
class Comparison:
    """All lines, and the verdict."""

    release: int
    candidate: int
    started_s: int
    lines: tuple[Line, ...]

    @property
    def code(self) -> int:
        """0 if the candidate is better or equal, 1 if it is worse, 2 if it is too little yet."""
        results = {line.result for line in self.lines if line.counts}
        return 1 if WORSE in results else 2 if LITTLE in results else 0

    def __str__(self) -> str:
        """Format the comparison for the terminal."""
        started = datetime.fromtimestamp(self.started_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
        heads = ("", f"release {self.release}", f"candidate {self.candidate}", "worse by", "allowed", "result")
        rows = [heads, *(line.cells() for line in self.lines)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        verdict = ("better or equal", WORSE, LITTLE)[self.code]
        return "\n".join([f"candidate since {started}", *lines, f"result: {verdict}"])


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is allowed: a loss of acceptance, in shares of the suggested tags, and of speed, in shares of a latency."""

    difference: float = 0.02
    slower: float = 0.2

    def __post_init__(self) -> None:
        """Raise ExportError for what is no share."""
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ExportError(f"{name} is {value}: expected a share, such as 0.02, or 0 for none")


def compare(
    urls: Sequence[str],
    repository: Path,
    *,
    given: Inputs | None = None,
    requests: int = 200,
    acceptance: Callable[[int, int, int], Acceptance] | None = None,
    prometheus: str | None = None,
    limits: Limits,
    access: Access = PLAIN,
) -> Comparison:
    """Compare the candidate on the servers at host:port with the release.

    `requests` of the candidate's golden set and of those `given` are sent to both. `acceptance` is asked with the
    numbers of the two and the time since the start, s. Raises ExportError.
    """
    checked_whole("requests", requests)
    found = releases(urls, access)
    release, candidate = the_served(found), the_candidate(found)
    if release == candidate:
        raise ReleaseError(f"release {candidate} is served already: run `canary promote` again")
    golden = load_release(repository, candidate)[1].inputs
    with connected(urls[0], access) as client:
        config = client.get_model_config(contract.CANDIDATE.name, client_timeout=DEADLINE_S).config
        started_s = int(config.parameters[STARTED].string_value)
        # Those given come first: the golden set has pictures twice, and extreme histories.
        asked = ask_both(client, (release, candidate), [each for each in (given, golden) if each], requests)
    since_s = max(1, int(time.time()) - started_s)
    taken = acceptance(release, candidate, since_s) if acceptance else None
    lines = [*served_lines(urls, access), *asked.lines(limits.slower, decisive=taken is None)]
    if taken:
        lines.append(taken_line(taken, limits.difference))
    if prometheus:
        lines.append(beside_line(*p99_ms(prometheus, since_s), limits.slower))
    return Comparison(release, candidate, started_s, tuple(lines))


def served_lines(urls: Sequence[str], access: Access) -> Iterator[Line]:
    """Compare the shares of failed requests, by Triton's counters since each of the two was loaded.

    The mean latencies are for information: users have other pictures, and the candidate's cache is the younger one.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(connected(url, access)) for url in urls]
        counted = counters(*servers)
    shares, means = [], []
    for model in (contract.TAG_RECOMMENDER, contract.CANDIDATE):
        counter = counted.get(model.name, {"fail": 0, "requests": 0, "request_ns": 0})
        failed = math.ceil(counter["fail"] / 2)  # Triton counts a failed request of an ensemble twice
        shares.append((failed, failed + int(counter["requests"])))
        means.append(f"{counter['request_ns'] / max(counter['requests'], 1) / 1e6:.1f} ms")
    (one, of_one), (other, of_other) = shares
    yield Line(name="mean in Triton", release=means[0], candidate=means[1], worse_by=None, allowed=0, counts=False)
    yield Line(
        name="failed requests",
        release=f"{one:,} of {of_one:,}",
        candidate=f"{other:,} of {of_other:,}",
        worse_by=share_difference(one, of_one, other, of_other),
        allowed=FAILURES_ALLOWED,
    )


@dataclass(frozen=True)
class Asked:
    """The same requests to both: durations, ms [n, 2], and for each different request the tags in common, 0 to K."""

    ms: NDArray[np.float64]
    common: NDArray[np.int64]

    def lines(self, slower: float, *, decisive: bool) -> Iterator[Line]:
        """Compare latency and answers. Other tags are never worse ones: only acceptance can tell."""
        one, other = (f"p50 {percentile(ms, 50):.1f}, p99 {percentile(ms, 99):.1f} ms" for ms in self.ms.T)
        yield Line(
            name="latency",
            release=one,
            candidate=other,
            worse_by=bootstrap(lambda ms: ms[:, 1] / ms[:, 0] - 1, self.ms),
            allowed=slower,
        )
        others, n = int((self.common < K).sum()), len(self.common)
        yield Line(
            name="other tags",
            release="-",
            candidate=f"{others} of {n}, {self.common.mean() / K if n else math.nan:.3f} in common",
            worse_by=(0.0, wilson(others, n)[1]),
            allowed=OTHERS_ALLOWED,
            counts=decisive,
        )


def ask_both(
    client: triton.InferenceServerClient, versions: tuple[int, int], given: Sequence[Inputs], requests: int
) -> Asked:
    """Send requests to both ensembles in turns: first as they are, then with another pixel, which no cache knows."""
    image, counts = (np.concatenate(arrays) for arrays in zip(*((of.image, of.counts) for of in given), strict=True))
    both = [
        ensemble_recommender(client, version, model)
        for version, model in zip(versions, (contract.TAG_RECOMMENDER, contract.CANDIDATE), strict=True)
    ]
    durations, common = [], []
    for turn, i in enumerate(islice(cycle(range(len(image))), requests)):
        picture = image[i : i + 1].copy()
        picture[0, 0, 0, 0] = (int(picture[0, 0, 0, 0]) + turn // len(image)) % 256
        took, tags = [0.0, 0.0], [set[int](), set[int]()]
        try:
            for which in (0, 1) if turn % 2 else (1, 0):
                sent_s = time.perf_counter()
                answer = both[which](picture, counts[i : i + 1])
                took[which] = 1000 * (time.perf_counter() - sent_s)
                tags[which] = set(np.argsort(-answer[0], kind="stable")[:K].tolist())
        except InferenceServerException:
            continue  # Triton counts it among the failures
        durations.append(took)
        if turn < len(image):
            common.append(len(tags[0] & tags[1]))
    return Asked(np.array(durations, dtype=np.float64).reshape(-1, 2), np.array(common, dtype=np.int64))


def taken_line(taken: Acceptance, difference: float) -> Line:
    """Compare the shares of suggested tags that users took."""
    totals = [table.sum(0) for table in (taken.release, taken.candidate)]
    one, other = (
        f"{total[1] / total[0] if total[0] else math.nan:.3f} of {total[0]:,.0f} tags, {len(table):,} {taken.unit}"
        for total, table in zip(totals, (taken.release, taken.candidate), strict=True)
    )
    return Line(
        name="accepted",
        release=one,
        candidate=other,
        worse_by=bootstrap(lambda a, b: a[:, 1] / a[:, 0] - b[:, 1] / b[:, 0], taken.release, taken.candidate),
        allowed=difference,
    )


def beside_line(before: NDArray[np.float64], since: NDArray[np.float64], slower: float) -> Line:
    """Compare the release's p99, ms, before the candidate was started and since: they share cores and queues."""
    one, other = (f"{ms.mean() if len(ms) else math.nan:.1f} ms" for ms in (before, since))
    tables = [np.stack([np.ones_like(ms), ms], 1) for ms in (before, since)]
    return Line(
        name="the release's p99",
        release=f"{one} before",
        candidate=f"{other} since",
        worse_by=bootstrap(lambda a, b: (b[:, 1] / b[:, 0]) / (a[:, 1] / a[:, 0]) - 1, *tables),
        allowed=slower,
        counts=bool(len(before) or len(since)),  # Triton has it only with --metrics-config=summary_latencies=true
    )


def bootstrap(statistic: Callable[..., NDArray[np.float64]], *tables: NDArray[np.float64]) -> Interval | None:
    """Compute the interval of a statistic of the tables' column sums, each [RESAMPLES, columns], by resampling rows.

    None if a table has fewer than LEAST rows.
    """
    if min(map(len, tables)) < LEAST:
        return None
    rng = np.random.default_rng(0)
    sums = [
        np.stack([np.bincount(rng.integers(n, size=n), minlength=n) @ table for _ in range(RESAMPLES)])
        for table, n in ((table, len(table)) for table in tables)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.percentile(statistic(*sums), [2.5, 97.5])
    return float(low), float(high)


def wilson(count: int, n: int) -> Interval:
    """Compute Wilson's interval of a share."""
    if not n:
        return 0.0, 1.0
    share, z2 = count / n, Z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return middle - half, middle + half


def share_difference(one: int, of_one: int, other: int, of_other: int) -> Interval:
    """Compute Newcombe's interval of `other / of_other - one / of_one`."""
    a, b = one / max(of_one, 1), other / max(of_other, 1)
    (a_low, a_high), (b_low, b_high) = wilson(one, of_one), wilson(other, of_other)
    return (
        b - a - math.hypot(b - b_low, a_high - a),
        b - a + math.hypot(b_high - b, a - a_low),
    )
