"""The files of a run: one record per request, the settings, and samples of Triton's counters."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.errors import LoadtestError
from loadtest.load.profiles import Profile
from loadtest.load.workload import Workload
from loadtest.parse import parse
from measure.files import write_bytes, write_text

FORMAT = "altreco-loadtest-1"
RUN_FILE, RECORDS_FILE, SERVER_FILE, OPINION_FILE = "run.json", "records.npz", "server.json", "perf_analyzer.json"
REPORT, SUMMARY, VERDICT, JUNIT = "report.html", "summary.md", "verdict.json", "junit.xml"
FILES = (RUN_FILE, RECORDS_FILE, SERVER_FILE, OPINION_FILE, REPORT, SUMMARY, VERDICT, JUNIT)
"""Files of a run, and of its report."""


@dataclass(frozen=True, eq=False)
class Records:
    """Arrays of equal length [requests]; times are seconds since the start of the run."""

    intended_s: NDArray[np.float64]
    """When the request was due; in a closed load, when its user began it."""
    started_s: NDArray[np.float64]
    """When it was sent, with its pictures ready."""
    ended_s: NDArray[np.float64]
    rows: NDArray[np.int16]
    """Number of pictures."""
    repeat: NDArray[np.bool_]
    """Whether all its pictures had been sent before in this run."""
    cold: NDArray[np.bool_]
    """Whether its user has no history."""
    phase: NDArray[np.int16]
    """Index of the stage in the profile."""
    error: NDArray[np.int16]
    """-1 if answered, otherwise an index into `errors`."""
    errors: tuple[str, ...] = ()

    def latency_ms(self) -> NDArray[np.float64]:
        """Time from when a request was due to its answer or error, so waiting in the generator counts."""
        return (self.ended_s - self.intended_s) * 1000

    def late_ms(self) -> NDArray[np.float64]:
        """Time from when a request was due to when it was sent."""
        return (self.started_s - self.intended_s) * 1000

    def where(self, mask: NDArray[np.bool_]) -> "Records":
        """Select the requests where the mask [requests] is true."""
        return replace(self, **{name: getattr(self, name)[mask] for name in DTYPES})

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.intended_s)


DTYPES = {
    "intended_s": np.float64,
    "started_s": np.float64,
    "ended_s": np.float64,
    "rows": np.int16,
    "repeat": np.bool_,
    "cold": np.bool_,
    "phase": np.int16,
    "error": np.int16,
}


def merge(parts: Sequence[Records]) -> Records:
    """Merge the records of several generators, ordered by when requests were due."""
    errors = tuple(dict.fromkeys(error for part in parts for error in part.errors))
    renamed = []
    for part in parts:
        index = np.array([errors.index(error) for error in part.errors] + [-1], dtype=np.int16)
        renamed.append(replace(part, error=index[part.error], errors=errors))  # -1 finds the last, which is -1
    columns = {
        name: np.concatenate([np.empty(0, dtype), *(getattr(part, name) for part in renamed)])
        for name, dtype in DTYPES.items()
    }
    order = np.argsort(columns["intended_s"], kind="stable")
    return Records(**{name: column[order] for name, column in columns.items()}, errors=errors)


def save_records(path: Path, records: Records) -> None:
    """Write an .npz file atomically."""
    content = io.BytesIO()
    columns = {name: getattr(records, name).astype(dtype, copy=False) for name, dtype in DTYPES.items()}
    np.savez_compressed(content, **columns, errors=np.array(records.errors, dtype=np.str_))
    write_bytes(path, content.getvalue())


def load_records(path: Path) -> Records:
    """Read what `save_records` wrote; raises LoadtestError."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            columns = {name: content[name].astype(dtype, copy=False) for name, dtype in DTYPES.items()}
            return Records(**columns, errors=tuple(map(str, content["errors"])))
    except FileNotFoundError as error:
        raise LoadtestError(f"{path} is missing: the run was cut off, or this is not the folder of a run") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise LoadtestError(f"{path} cannot be read as the records of a run ({error}): run again") from error


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker on another machine, as the master of the run saw it."""

    number: int
    host: str
    process: int
    planned: int | None
    """Requests that it had to send; None for a closed load."""
    recorded: int = 0
    """Requests whose records have come."""
    missing_blocks: int = 0
    """Blocks of records that have not come, though later ones have."""
    ended: bool = False
    """Whether its last block has come."""
    began_late_ms: float = 0.0
    pause_ms: float = 0.0
    """Longest time for which it was stopped or hung, by its own clock."""
    round_trip_ms: float = 0.0
    """Shortest time of a message to it and back. Half of it bounds the error of `clock_s`."""
    clock_s: float = 0.0
    """Its monotonic clock less the master's."""
    cpu_share: float = 0.0
    """Share of a core that it used in its busiest ten seconds."""
    machine_share: float = 0.0
    """Share of all cores of its machine that were busy in their busiest ten seconds."""

    @property
    def name(self) -> str:
        """Name such as `worker 0 (node-a, process 17)`."""
        return f"worker {self.number} ({self.host}, process {self.process})"


@dataclass(frozen=True, kw_only=True)
class Generator:
    """State of the load generator during a run."""

    load: str
    """`open` or `closed`."""
    workers: int
    limit_requests_per_s: float | None
    """Highest rate that it can send, measured before the run; None if not measured."""
    cpu_share: tuple[tuple[float, float], ...]
    """Pairs of a time in seconds and the share of a core that the busiest process used."""
    bound_reached: bool = False
    """Whether requests waited because too many were in flight."""
    remote: tuple[Worker, ...] = ()
    """Workers on other machines."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run, as in run.json."""

    profile: Profile
    workload: Workload
    url: str
    started: str
    """ISO 8601, UTC."""
    environment: Mapping[str, Any]
    server_config: Mapping[str, Any] | None
    duration_s: float
    """Duration of the load; shorter than the profile's if the run ended early."""
    ended_early: str | None
    """Why the run ended early; None if it did not."""
    generator: Generator

    def plain(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


@dataclass(frozen=True)
class Run:
    """A run, read from its folder."""

    folder: Path
    settings: RunSettings
    records: Records
    samples: Sequence[Mapping[str, Any]]
    """Samples of Triton's counters in server.json, from before the load to after it."""


def save_settings(path: Path, settings: RunSettings) -> None:
    """Write run.json atomically."""
    write_text(path, json.dumps({"format": FORMAT, **settings.plain()}, indent=1) + "\n")


def load_settings(path: Path) -> RunSettings:
    """Read what `save_settings` wrote; raises LoadtestError."""
    values = _read_json(path)
    if (found := values.pop("format", None)) != FORMAT:
        raise LoadtestError(f"{path} has format {found!r}: expected {FORMAT!r}; run again")
    return parse(RunSettings, values, file=str(path))


def load_run(folder: Path) -> Run:
    """Read and check the folder of a run; raises LoadtestError."""
    settings = load_settings(folder / RUN_FILE)
    samples = _read_json(folder / SERVER_FILE).get("samples", [])
    return Run(folder, settings, load_records(folder / RECORDS_FILE), samples)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LoadtestError(f"{path} is missing: expected a folder that `python -m loadtest run` wrote") from error
    except (OSError, ValueError) as error:
        raise LoadtestError(f"{path} cannot be read ({error}): run again") from error
    if not isinstance(content, dict):
        raise LoadtestError(f"{path} holds a {type(content).__name__}, expected a JSON object: run again")
    return content
