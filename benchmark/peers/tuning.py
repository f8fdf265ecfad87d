"""What is tuned of a server: how it uses the cores, and its batches. Imported by servers in other environments too."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

PREFIX = "PEER_"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Of one server; `threads` are a worker's, `batch` is the most pictures that it puts together (1: none)."""

    workers: int
    threads: int
    batch: int
    spin: bool = False
    """Whether ONNX Runtime's threads wait for work with the core in hand."""

    def label(self) -> str:
        """In the report."""
        plural = f"{self.workers} worker{'s' * (self.workers > 1)} x {self.threads} thread{'s' * (self.threads > 1)}"
        return f"{plural}, {f'batches to {self.batch}' if self.batch > 1 else 'no batches'}{', spinning' * self.spin}"

    def environment(self) -> dict[str, str]:
        """The variables that `given` reads."""
        return {f"{PREFIX}{name.upper()}": str(int(value)) for name, value in asdict(self).items()}


def given() -> Tuning:
    """The one that this process was started with."""
    names = ("workers", "threads", "batch", "spin")
    workers, threads, batch, spin = (int(os.environ[f"{PREFIX}{name.upper()}"]) for name in names)
    return Tuning(workers=workers, threads=threads, batch=batch, spin=bool(spin))


def repository() -> Path:
    """The model repository whose files this process serves."""
    return Path(os.environ[f"{PREFIX}REPOSITORY"])
