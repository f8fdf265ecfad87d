"""The state of an unfinished run beside its checkpoint-to-be, so that it can go on where it was stopped."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.errors import CheckpointError
from training.files import read_weights, write_weights

FORMAT = "altreco-state-1"


@dataclass(frozen=True)
class Progress:
    """Phases that are behind, steps of the current one, steps of all; best validation figure, and epochs since."""

    phase: int = 0
    step: int = 0
    steps_in_all: int = 0
    best: float = float("-inf")
    stale_epochs: int = 0


def save_state(path: Path, fingerprint: str, progress: Progress, weights: Mapping[str, Any]) -> None:
    """Write beside, then rename; raises CheckpointError."""
    write_weights(path, {"format": FORMAT, "fingerprint": fingerprint, "progress": asdict(progress), **weights})


def load_state(path: Path, fingerprint: str) -> tuple[Progress, Mapping[str, Any]]:
    """What `save_state` wrote. Raises CheckpointError when it is damaged, or of another run than `fingerprint`."""
    content = read_weights(path, FORMAT)
    if content["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"{path} is the state of an unfinished run with other settings or data: finish that one as it was started, "
            "choose another --out, or start over with --fresh"
        )
    return Progress(**content["progress"]), content
