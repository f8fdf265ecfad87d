"""What the master of a load from several machines knows about each worker."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loadtest.judge.slo import BUSY_S
from loadtest.records import Worker
from loadtest.run.parts import BOUND, ENTRY, ERRORS, PICTURES, REQUESTS, Part, save_worker

SUFFIXES = (PICTURES, ERRORS, BOUND, REQUESTS)
"""Files of a worker, in the order in which they are written: those of a request before itself."""

Exchange = tuple[float, float, float]
"""Our clock before a question, the other clock at its answer, and ours after it, in seconds."""


def clock_of(exchanges: Iterable[Exchange]) -> tuple[float, float]:
    """Estimate another clock less ours, in seconds, and the round trip, half of which bounds the error.

    The shortest exchange tells most.
    """
    sent_s, at_s, received_s = min(exchanges, key=lambda exchange: exchange[2] - exchange[0])
    return at_s - (sent_s + received_s) / 2, received_s - sent_s


class Busiest:
    """Highest mean over BUSY_S seconds of a share that comes once a second; over all of them if there are fewer."""

    def __init__(self) -> None:
        """Begin without a value."""
        self._last, self._highest = deque[float](maxlen=BUSY_S), 0.0

    def add(self, share: float) -> float:
        """Add a value, and return the highest mean so far."""
        whole = len(self._last) == BUSY_S
        self._last.append(share)
        mean = sum(self._last) / len(self._last)
        self._highest = max(self._highest, mean) if whole else mean
        return self._highest


@dataclass
class Member:
    """A worker that has come, by the `client_id` of its connection."""

    client_id: str
    worker: Worker
    prepared: bool = False
    next_block: int = 0
    cpu: Busiest = field(default_factory=Busiest)
    machine: Busiest = field(default_factory=Busiest)

    def begin(self, path: Path, begin_s: float) -> None:
        """Create its files, `path` without suffix, for a load that begins at `begin_s` on the master's clock."""
        self._path, self._part = path, Part(path, begin_s)
        save_worker(path, self.worker, cpu_share=0.0)

    def take(self, block: Mapping[str, Any]) -> None:
        """Write the records of a block, and what it says about the worker. Raises OSError."""
        files, state = block["files"], dict(block["state"])
        for suffix in SUFFIXES:
            if suffix in files:
                self._part.append(suffix, files[suffix])
        now = float(state.get("cpu_share", 0.0))
        if "cpu_share" in state:
            state |= {"cpu_share": self.cpu.add(now), "machine_share": self.machine.add(state["machine_share"])}
        self.worker = replace(
            self.worker,
            recorded=self.worker.recorded + len(files.get(REQUESTS, b"")) // ENTRY.itemsize,
            missing_blocks=self.worker.missing_blocks + block["number"] - self.next_block,
            ended=bool(block["last"]),
            **state,
        )
        self.next_block = block["number"] + 1
        save_worker(self._path, self.worker, cpu_share=now)
