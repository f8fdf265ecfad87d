"""The state of an unfinished run, stored beside its future checkpoint, from which it can continue."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.errors import CheckpointError, SettingsError
from training.files import read_weights, write_weights
from training.settings import TrainSettings, from_json, to_json

FORMAT = "altreco-state-2"

MAX_SHARE = 0.01
"""Share of the time that saving states may take."""

FREE = ("preset", "learning_rate", "max_grad_norm", "accumulate", "precision", "patience")
"""Settings that may change when a run goes on: they decide neither its batches nor the shapes of what is kept."""


@dataclass(frozen=True)
class Progress:
    """Finished phases, steps in the current phase and in all; best validation figure, and epochs since then."""

    phase: int = 0
    step: int = 0
    steps_in_all: int = 0
    best: float = float("-inf")
    stale_epochs: int = 0


@dataclass
class Saving:
    """When to save the state, and how long that took: at most MAX_SHARE of the time, unless `every` so many steps."""

    every: int | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    times: int = 0
    _last: float = 0.6

    @property
    def share(self) -> float:
        """The share of the time since the start."""
        return self.seconds / (time.monotonic() - self.started)

    def is_due(self) -> bool:
        """Whether another state of the last one's cost, at first 0.6 s, keeps within MAX_SHARE."""
        elapsed = time.monotonic() - self.started
        return self.every is None and self.seconds + self._last <= MAX_SHARE * elapsed

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count what is done inside as one state."""
        before = time.monotonic()
        yield
        self._last = time.monotonic() - before
        self.seconds += self._last
        self.times += 1

    def __str__(self) -> str:
        """Return the cost in one line."""
        said = f"saved the state {self.times} times in {self.seconds:.1f} s, {self.share:.1%} of the time"
        return said + "; a larger --save-every costs less" * (self.every is not None and self.share > MAX_SHARE)


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a state says. `changes`: settings that are others now, in words; `rate`: how the learning rate changed."""

    progress: Progress = Progress()
    weights: Mapping[str, Any] | None = None
    changes: tuple[str, ...] = ()
    rate: float = 1.0


def save_state(path: Path, settings: TrainSettings, data: str, progress: Progress, weights: Mapping[str, Any]) -> None:
    """Write the state atomically; `data` is a fingerprint. Raises CheckpointError."""
    content = {"format": FORMAT, "settings": to_json(settings), "data": data, "progress": asdict(progress), **weights}
    write_weights(path, content)


def load_state(path: Path, settings: TrainSettings, data: str) -> Saved:
    """Read what `save_state` wrote, if there is anything; raises CheckpointError for damage or another run's state."""
    if not path.exists():
        return Saved()
    content = read_weights(path, FORMAT)
    advice = "finish that run with its own, choose another --out, or start over with --fresh"
    try:
        before = from_json(content["settings"])
    except SettingsError as error:
        raise CheckpointError(f"{path} is the state of an unfinished run of another version: {advice}") from error
    old, new = _flat(asdict(before)), _flat(asdict(settings))
    free = (*FREE, "epochs") if settings.schedule == "constant" else FREE
    changed = [name for name in new if old.get(name) != new[name]]
    if fixed := [name for name in changed if name not in free]:
        names = ", ".join(f"{name} {old.get(name)}, now {new[name]}" for name in fixed)
        raise CheckpointError(f"{path} is the state of an unfinished run of other settings ({names}): {advice}")
    if content["data"] != data:
        raise CheckpointError(f"{path} is the state of an unfinished run on other data: {advice}")
    return Saved(
        progress=Progress(**content["progress"]),
        weights=content,
        changes=tuple(f"{name} {new[name]} (was {old.get(name)})" for name in changed if name != "preset"),
        rate=settings.learning_rate / before.learning_rate,
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value that is no mapping, by its names with dots between them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
