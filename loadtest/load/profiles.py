"""How much load at what time: a profile is a TOML file of stages; `loadtest/profiles/` holds those that have names."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.errors import LoadtestError
from loadtest.parse import parse, read_toml

PROFILES = Path(__file__).parents[1] / "profiles"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a profile; `level` is in multiples of its rate or users, and goes in a straight line `to` another."""

    name: str
    duration_s: float
    level: float = 1.0
    to: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not self.duration_s > 0:
            raise ValueError(f"duration_s is {self.duration_s:g}, expected seconds above 0")
        for name, level in (("level", self.level), ("to", self.end)):
            if not level >= 0:
                raise ValueError(f"{name} is {level:g}, expected 0 or more")

    @property
    def end(self) -> float:
        """The level at its end."""
        return self.level if self.to is None else self.to


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Open load has a `rate` (requests a second, which leave whatever the server does), closed load has `users`.

    A user asks, waits for the answer, thinks (exponentially distributed, `think_time_s` on average), and asks again.
    """

    stages: tuple[Stage, ...]
    name: str = ""
    description: str = ""
    rate: float | None = None
    users: int | None = None
    think_time_s: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not self.stages:
            raise ValueError("stages are none, expected one [[stages]] at least")
        if (self.rate is None) == (self.users is None):
            raise ValueError("rate and users: expected one of them (open or closed load)")
        for name in ("rate", "users"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name):g}, expected more than 0")
        if not self.think_time_s >= 0:
            raise ValueError(f"think_time_s is {self.think_time_s:g}, expected 0 or more seconds")
        if self.rate is not None and self.think_time_s:
            raise ValueError("think_time_s is of users, expected none beside a rate")

    @property
    def duration_s(self) -> float:
        """Of all stages."""
        return sum(stage.duration_s for stage in self.stages)

    @property
    def load(self) -> str:
        """open or closed."""
        return "open" if self.users is None else "closed"

    @property
    def peak_rate(self) -> float | None:
        """The highest rate that it asks for; None under a closed load, which asks for none."""
        return None if self.rate is None else self.rate * max(max(stage.level, stage.end) for stage in self.stages)

    def level(self, t_s: float) -> float | None:
        """At that time; None after the end."""
        for begin_s, stage in self.begins():
            if t_s < begin_s + stage.duration_s:
                return stage.level + (stage.end - stage.level) * (t_s - begin_s) / stage.duration_s
        return None

    def begins(self) -> Iterator[tuple[float, Stage]]:
        """Each stage after the seconds at which it begins."""
        begin_s = 0.0
        for stage in self.stages:
            yield begin_s, stage
            begin_s += stage.duration_s

    def phases(self, t_s: NDArray[np.float64]) -> NDArray[np.int16]:
        """Index of the stage at each of these times; what comes after the end belongs to the last."""
        begins = [begin_s for begin_s, _ in self.begins()]
        return (np.searchsorted(begins, t_s, side="right") - 1).clip(0).astype(np.int16)

    def arrivals(self, rng: np.random.Generator, *, share: float = 1.0) -> NDArray[np.float64]:
        """When requests of an open load leave, seconds, in order: a Poisson process, or one of several that sum to it.

        Of a Poisson process, the number in a stage is Poisson distributed, and given it, their times are independent,
        with the rate as density: its integral is inverted.
        """
        assert self.rate is not None
        times = [np.empty(0)]
        for begin_s, stage in self.begins():
            low, high = stage.level, stage.end
            expected = self.rate * share * stage.duration_s * (low + high) / 2
            u = np.sort(rng.random(rng.poisson(expected)))
            x = u if low == high else (np.sqrt(low**2 + (high**2 - low**2) * u) - low) / (high - low)
            times.append(begin_s + stage.duration_s * x)
        return np.concatenate(times)

    def changed(
        self, *, rate: float | None = None, users: int | None = None, duration_s: float | None = None
    ) -> "Profile":
        """With another load or duration, every stage by the same factor; raises LoadtestError."""
        try:
            changed = self
            if rate is not None:
                changed = replace(changed, rate=rate, users=None, think_time_s=0.0)
            if users is not None:
                changed = replace(changed, users=users, rate=None)
            if duration_s is not None:
                factor = duration_s / self.duration_s
                stages = tuple(replace(stage, duration_s=stage.duration_s * factor) for stage in self.stages)
                changed = replace(changed, stages=stages)
        except ValueError as error:
            raise LoadtestError(f"profile {self.name}: {error}") from error
        return changed


def load_profile(name: str) -> Profile:
    """By its name, or from a TOML file; raises LoadtestError."""
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if path.parent == PROFILES and not path.exists():
        known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.toml")))
        raise LoadtestError(f"there is no profile {name!r}, expected {known}, or a .toml file")
    return replace(parse(Profile, read_toml(path, "profile"), file=str(path)), name=path.stem)
