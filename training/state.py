"""The state of an unfinished run, stored beside its future checkpoint, from which it can continue."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.errors import CheckpointError
from training.files import read_weights, write_weights

FORMAT = "altreco-state-1"


@dataclass(frozen=True)
class Progress:
    """Finished phases, steps in the current phase and in all; best validation figure, and epochs since then."""

    phase: int = 0
    step: int = 0
    steps_in_all: int = 0
    best: float = float("-inf")
    stale_epochs: int = 0


def save_state(path: Path, fingerprint: str, progress: Progress, weights: Mapping[str, Any]) -> None:
    """Write the state atomically; raises CheckpointError."""
    write_weights(path, {"format": FORMAT, "fingerprint": fingerprint, "progress": asdict(progress), **weights})


def load_state(path: Path, fingerprint: str) -> tuple[Progress, Mapping[str, Any]]:
    """Read what `save_state` wrote; raises CheckpointError if it is damaged or belongs to another run."""
    content = read_weights(path, FORMAT)
    if content["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"{path} is the state of an unfinished run with other settings or data: finish that run with its own "
            "settings, choose another --out, or start over with --fresh"
        )
    return Progress(**content["progress"]), content
