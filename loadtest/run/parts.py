"""Files that each generator process writes during the run, and the records collected from them.

Every request is written at once with one system call, so a process that is killed leaves all its records.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from altreco_client.text import message
from numpy.typing import NDArray

from loadtest.load.profiles import Profile
from loadtest.parse import parse
from loadtest.records import Records, Worker, merge
from measure.files import write_text

ENTRY = np.dtype(
    [("intended_s", "f8"), ("started_s", "f8"), ("ended_s", "f8"), ("rows", "i2"), ("cold", "?"), ("error", "i2")]
)
"""Times are seconds since the process began; `error` is -1 or the index of a line."""

START, REQUESTS, PICTURES, ERRORS, BOUND = ".start", ".requests", ".pictures", ".errors", ".bound"
"""Suffixes: start time, one ENTRY per request, numbers of the pictures, one line per error, marker of waiting."""

WORKER = ".worker"
"""Suffix of what the master knows about a worker on another machine."""

MOST_BYTES = 2**20
"""Largest block of records sent to another machine: a larger one would keep a worker from its load for too long."""

NO_RECORDS = 3
"""Exit code of a process that could not write its records."""


Append = Callable[[str, bytes], None]
"""Appends bytes to the file with a suffix; raises OSError."""


class Part:
    """Files of one process, in a folder of this machine."""

    def __init__(self, part: Path, started: float) -> None:
        """Create the files; `started` is on the machine's monotonic clock, which all processes share."""
        self._part, self._files = part, dict[str, int]()
        for suffix in (REQUESTS, PICTURES, ERRORS):
            self.append(suffix, b"")
        write_text(part.with_suffix(START), json.dumps(started))

    def append(self, suffix: str, content: bytes) -> None:
        """Write all of it: a disk that becomes full takes a part, and refuses the rest. Raises OSError."""
        if suffix not in self._files:  # open until the process ends
            path = self._part.with_suffix(suffix)
            self._files[suffix] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        while content:
            content = content[os.write(self._files[suffix], content) :]


class Recorder:
    """Records of one process, as bytes for its files."""

    def __init__(self, append: Append) -> None:
        """Pass them to `append`: of a Part, or on the way to the machine that has it."""
        self._append, self._errors = append, dict[str, int]()

    def add(
        self,
        pictures: Sequence[int],
        *,
        intended_s: float,
        started_s: float,
        ended_s: float,
        cold: bool,
        error: str | None,
    ) -> None:
        """Write a request that has ended; `error` is None if it was answered. Raises OSError."""
        number = -1 if error is None else self._number(error)
        self._append(PICTURES, np.array(pictures, dtype=np.int64).tobytes())
        entry = (intended_s, started_s, ended_s, len(pictures), cold, number)
        self._append(REQUESTS, np.array(entry, dtype=ENTRY).tobytes())

    def note_bound(self) -> None:
        """Note that a request waited because too many were in flight."""
        self._append(BOUND, b"")

    def _number(self, error: str) -> int:
        if error not in self._errors:
            self._errors[error] = len(self._errors)
            self._append(ERRORS, (error.replace("\n", " ") + "\n").encode())
        return self._errors[error]


class Outbox:
    """Records on their way to the master, by the suffix of their file, in blocks of at most MOST_BYTES."""

    def __init__(self) -> None:
        """Begin with an empty block."""
        self._blocks: list[dict[str, bytearray]] = [{}]
        self._bytes = 0

    def append(self, suffix: str, content: bytes) -> None:
        """Add to the file with this suffix."""
        if self._bytes + len(content) > MOST_BYTES:
            self._blocks.append({})
            self._bytes = 0
        self._blocks[-1].setdefault(suffix, bytearray()).extend(content)
        self._bytes += len(content)

    def take(self) -> list[dict[str, bytearray]]:
        """Return the blocks since the last call, at least one, which may be empty."""
        taken, self._blocks, self._bytes = self._blocks, [{}], 0
        return taken


def save_worker(part: Path, worker: Worker, *, cpu_share: float) -> None:
    """Write what is known about a worker on another machine, and the share of a core that it uses now."""
    write_text(part.with_suffix(WORKER), json.dumps({"now": cpu_share, **asdict(worker)}))


def workers(folder: Path) -> tuple[Worker, ...]:
    """Read what is known about the workers on other machines, by number; empty if there are none."""
    states = [(file, json.loads(file.read_text())) for file in folder.glob(f"*{WORKER}")]
    found = (parse(Worker, {k: v for k, v in state.items() if k != "now"}, file=str(file)) for file, state in states)
    return tuple(sorted(found, key=lambda worker: worker.number))


def workers_cpu_share(folder: Path) -> float:
    """Read the share of a core that the busiest worker on another machine uses now; 0 if there are none."""
    return max((json.loads(file.read_text())["now"] for file in folder.glob(f"*{WORKER}")), default=0.0)


def started(folder: Path) -> float | None:
    """Read the start of the first process on the machine's monotonic clock; None if none has started."""
    return min(_starts(folder).values(), default=None)


def bound_reached(folder: Path) -> bool:
    """Return whether a request waited in one of the processes."""
    return any(folder.glob(f"*{BOUND}"))


class Tail:
    """Reader of the requests written since the last call."""

    def __init__(self, folder: Path) -> None:
        """Read the files of all processes in `folder`."""
        self._folder, self._read = folder, dict[Path, int]()

    def new(self) -> NDArray[np.void]:
        """Read the new requests [n] of ENTRY; times count from the start of each process."""
        parts = [np.empty(0, ENTRY)]
        for file in self._folder.glob(f"*{REQUESTS}"):
            parts.append(np.fromfile(file, dtype=ENTRY, offset=self._read.get(file, 0)))
            self._read[file] = self._read.get(file, 0) + parts[-1].nbytes
        return np.concatenate(parts)


def collect(folder: Path, profile: Profile) -> Records:
    """Collect the records of all processes, on the clock of the first."""
    starts = _starts(folder)
    first = min(starts.values(), default=0.0)
    parts, pictures = [], []
    for part, begin in starts.items():
        entries = np.fromfile(part.with_suffix(REQUESTS), dtype=ENTRY)  # ignores a last entry that is cut off
        times = {name: entries[name] + (begin - first) for name in ("intended_s", "started_s", "ended_s")}
        numbers = np.fromfile(part.with_suffix(PICTURES), dtype=np.int64)[: int(entries["rows"].sum())]
        pictures.append(numbers)
        parts.append(
            Records(
                **times,
                rows=entries["rows"],
                repeat=np.zeros(len(entries), dtype=bool),
                cold=entries["cold"],
                phase=profile.phases(times["intended_s"]),
                error=entries["error"],
                errors=_errors(part),
            )
        )
    _mark_repeats(parts, pictures)
    return merge(parts)


def _errors(part: Path) -> tuple[str, ...]:
    """Read the error texts, which a worker on another machine may have sent, fit for reports and terminals."""
    text = part.with_suffix(ERRORS).read_bytes().decode("utf-8", errors="replace")
    return tuple(map(message, text.removesuffix("\n").split("\n"))) if text else ()


def _mark_repeats(parts: Sequence[Records], pictures: Sequence[NDArray[np.int64]]) -> None:
    """Mark, in place, requests whose pictures had all been sent before by any process."""
    if not any(map(len, parts)):
        return
    rows, started_s = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "started_s"))
    request = np.repeat(np.arange(len(rows)), rows)
    order = np.argsort(started_s[request], kind="stable")
    _, first = np.unique(np.concatenate(pictures)[order], return_index=True)
    repeat = np.ones(len(rows), dtype=bool)
    repeat[request[order[first]]] = False
    for part, marks in zip(parts, np.split(repeat, np.cumsum([len(part) for part in parts])[:-1]), strict=True):
        part.repeat[:] = marks


def _starts(folder: Path) -> dict[Path, float]:
    """Read the start time of each part."""
    return {file.with_suffix(""): json.loads(file.read_text()) for file in sorted(folder.glob(f"*{START}"))}
