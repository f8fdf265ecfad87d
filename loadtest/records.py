"""What a run leaves behind: an entry for each request, the run's settings, and the server's own samples."""

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
from loadtest.profiles import Profile
from loadtest.tables import parse
from loadtest.workload import Workload
from measure.files import write_bytes, write_text

FORMAT = "altreco-loadtest-1"
RUN_FILE, RECORDS_FILE, SERVER_FILE, OPINION_FILE = "run.json", "records.npz", "server.json", "perf_analyzer.json"


@dataclass(frozen=True, eq=False)
class Records:
    """Arrays of equal length, an entry a request; times are seconds since the run's start."""

    intended_s: NDArray[np.float64]
    """When it should have left; under a closed load, when its user turned to it."""
    started_s: NDArray[np.float64]
    """When it left, with its pictures ready."""
    ended_s: NDArray[np.float64]
    rows: NDArray[np.int16]
    """Pictures in it."""
    repeat: NDArray[np.bool_]
    """Whether all of its pictures were asked for before in this run."""
    cold: NDArray[np.bool_]
    """Whether none of its users has a history."""
    phase: NDArray[np.int16]
    """Index of the profile's stage."""
    error: NDArray[np.int16]
    """-1: answered; otherwise index into `errors`."""
    errors: tuple[str, ...] = ()

    def latency_ms(self) -> NDArray[np.float64]:
        """From when it should have left to its answer or error: what waited in the generator waited, too."""
        return (self.ended_s - self.intended_s) * 1000

    def late_ms(self) -> NDArray[np.float64]:
        """From when it should have left to when it left, with its pictures ready."""
        return (self.started_s - self.intended_s) * 1000

    def where(self, mask: NDArray[np.bool_]) -> "Records":
        """Those entries alone."""
        return replace(self, **{name: getattr(self, name)[mask] for name in DTYPES})

    def __len__(self) -> int:
        """Requests."""
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
    """All entries of several generators, in the order in which they should have left."""
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
    """Write an .npz, whole or not at all."""
    content = io.BytesIO()
    columns = {name: getattr(records, name).astype(dtype, copy=False) for name, dtype in DTYPES.items()}
    np.savez_compressed(content, **columns, errors=np.array(records.errors, dtype=np.str_))
    write_bytes(path, content.getvalue())


def load_records(path: Path) -> Records:
    """What `save_records` wrote; raises LoadtestError."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            columns = {name: content[name].astype(dtype, copy=False) for name, dtype in DTYPES.items()}
            return Records(**columns, errors=tuple(map(str, content["errors"])))
    except FileNotFoundError as error:
        raise LoadtestError(f"{path} is missing: the run was cut off, or this is no run's folder") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise LoadtestError(f"{path} cannot be read as a run's records ({error}): run again") from error


@dataclass(frozen=True, kw_only=True)
class Generator:
    """What is known of the load generator during a run."""

    load: str
    """open or closed."""
    workers: int
    limit_requests_per_s: float | None
    """The most that it can send, as measured before the run; None: not measured."""
    cpu_share: tuple[tuple[float, float], ...]
    """Second, and the share of a core that its busiest process used."""
    bound_reached: bool = False
    """Whether requests had to wait because too many were in flight."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What a run was: run.json."""

    profile: Profile
    workload: Workload
    url: str
    started: str
    """ISO 8601, UTC."""
    environment: Mapping[str, Any]
    server_config: Mapping[str, Any] | None
    duration_s: float
    """Seconds that the load lasted; fewer than the profile's where the run ended early."""
    ended_early: str | None
    """Why; None: it lasted to its end."""
    generator: Generator

    def plain(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


@dataclass(frozen=True)
class Run:
    """A run's folder, read."""

    folder: Path
    settings: RunSettings
    records: Records
    samples: Sequence[Mapping[str, Any]]
    """server.json: what Triton counted, from before the load to after it."""


def save_settings(path: Path, settings: RunSettings) -> None:
    """Write run.json, whole or not at all."""
    write_text(path, json.dumps({"format": FORMAT, **settings.plain()}, indent=1) + "\n")


def load_run(folder: Path) -> Run:
    """Read and check what the run command left; raises LoadtestError."""
    values = _read_json(folder / RUN_FILE)
    if (found := values.pop("format", None)) != FORMAT:
        raise LoadtestError(f"{folder / RUN_FILE} has format {found!r}: expected {FORMAT!r}; run again")
    settings = parse(RunSettings, values, file=str(folder / RUN_FILE))
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
