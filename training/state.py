"""The state of an unfinished run, from which it continues after it was stopped; a file beside the checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.errors import CheckpointError
from training.files import read_weights, write_weights

FORMAT = "altreco-state-1"


@dataclass(frozen=True)
class Progress:
    """Finished phases; steps of the current phase and of all; the best validation figure and the epochs since then."""

    phase: int = 0
    step: int = 0
    steps_in_all: int = 0
    best: float = float("-inf")
    stale_epochs: int = 0


def save_state(path: Path, fingerprint: str, progress: Progress, weights: Mapping[str, Any]) -> None:
    """Write the file whole or not at all; raises CheckpointError."""
    write_weights(path, {"format": FORMAT, "fingerprint": fingerprint, "progress": asdict(progress), **weights})


def load_state(path: Path, fingerprint: str) -> tuple[Progress, Mapping[str, Any]]:
    """Read what `save_state` wrote; raises CheckpointError if it is damaged or of a run with another `fingerprint`."""
    content = read_weights(path, FORMAT)
    if content["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"{path} is the state of an unfinished run with other settings or data: finish that run with its own "
            "command, choose another --out, or start over with --fresh"
        )
    return Progress(**content["progress"]), content
