"""Tuning of a server: its use of cores, and its batches. Servers in other environments import this too."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

PREFIX = "PEER_"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Tuning of one server: `threads` per worker, and at most `batch` pictures per batch (1: no batches)."""

    workers: int
    threads: int
    batch: int
    spin: bool = False
    """Whether waiting threads of ONNX Runtime keep their core."""

    def label(self) -> str:
        """Format the tuning for the report."""
        plural = f"{self.workers} worker{'s' * (self.workers > 1)} x {self.threads} thread{'s' * (self.threads > 1)}"
        return f"{plural}, {f'batches to {self.batch}' if self.batch > 1 else 'no batches'}{', spinning' * self.spin}"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that `given` reads."""
        return {f"{PREFIX}{name.upper()}": str(int(value)) for name, value in asdict(self).items()}


def given() -> Tuning:
    """Read the tuning that this process was started with."""
    names = ("workers", "threads", "batch", "spin")
    workers, threads, batch, spin = (int(os.environ[f"{PREFIX}{name.upper()}"]) for name in names)
    return Tuning(workers=workers, threads=threads, batch=batch, spin=bool(spin))


def repository() -> Path:
    """Return the path of the model repository that this process serves."""
    return Path(os.environ[f"{PREFIX}REPOSITORY"])
