"""Profiles: the amount of load over time, as stages in a TOML file. `loadtest/profiles/` has the named ones."""

import math
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
    """One part of a profile. `level` multiplies its rate or users, and changes linearly to `to` if that is given."""

    name: str
    duration_s: float
    level: float = 1.0
    to: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        if not 0 < self.duration_s < math.inf:
            raise ValueError(f"duration_s is {self.duration_s:g}, expected seconds above 0")
        for name, level in (("level", self.level), ("to", self.end)):
            if not 0 <= level < math.inf:
                raise ValueError(f"{name} is {level:g}, expected 0 or more")

    @property
    def end(self) -> float:
        """Level at the end of the stage."""
        return self.level if self.to is None else self.to

    @property
    def mean(self) -> float:
        """Mean level of the stage."""
        return (self.level + self.end) / 2


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Load over time: open with a `rate` (requests per second, whatever the server does), or closed with `users`.

    A user sends a request, waits for the answer, and thinks: an exponential time with mean `think_time_s`.
    """

    stages: tuple[Stage, ...]
    name: str = ""
    description: str = ""
    rate: float | None = None
    users: int | None = None
    think_time_s: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        if not self.stages:
            raise ValueError("stages are missing, expected at least one [[stages]]")
        if (self.rate is None) == (self.users is None):
            raise ValueError("rate and users: expected one of them (open or closed load)")
        for name in ("rate", "users"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name):g}, expected more than 0")
        if not 0 <= self.think_time_s < math.inf:
            raise ValueError(f"think_time_s is {self.think_time_s:g}, expected 0 or more seconds")
        if self.rate is not None and self.think_time_s:
            raise ValueError("think_time_s is for users, expected none with a rate")

    @property
    def duration_s(self) -> float:
        """Duration of all stages."""
        return sum(stage.duration_s for stage in self.stages)

    @property
    def load(self) -> str:
        """`open` or `closed`."""
        return "open" if self.users is None else "closed"

    @property
    def peak_rate(self) -> float | None:
        """Highest rate of an open load; None for a closed one."""
        return None if self.rate is None else self.rate * max(max(stage.level, stage.end) for stage in self.stages)

    @property
    def requests(self) -> float | None:
        """Expected number of requests of an open load; None for a closed one."""
        return None if self.rate is None else self.rate * sum(stage.mean * stage.duration_s for stage in self.stages)

    def level(self, t_s: float) -> float | None:
        """Compute the level at a time; None after the end."""
        for begin_s, stage in self.begins():
            if t_s < begin_s + stage.duration_s:
                return stage.level + (stage.end - stage.level) * (t_s - begin_s) / stage.duration_s
        return None

    def begins(self) -> Iterator[tuple[float, Stage]]:
        """Yield the start time of each stage, and the stage."""
        begin_s = 0.0
        for stage in self.stages:
            yield begin_s, stage
            begin_s += stage.duration_s

    def phases(self, t_s: NDArray[np.float64]) -> NDArray[np.int16]:
        """Find the index of the stage at each time [n]; times after the end belong to the last stage."""
        begins = [begin_s for begin_s, _ in self.begins()]
        return (np.searchsorted(begins, t_s, side="right") - 1).clip(0).astype(np.int16)

    def arrivals(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw the times, in seconds and in order, at which requests of an open load are due: a Poisson process.

        The number of requests in a stage has a Poisson distribution. Given the number, their times are independent,
        with a density proportional to the rate, so they are drawn by inverting its integral.
        """
        assert self.rate is not None
        times = [np.empty(0)]
        for begin_s, stage in self.begins():
            low, high = stage.level, stage.end
            u = np.sort(rng.random(rng.poisson(self.rate * stage.duration_s * stage.mean)))
            x = u if low == high else (np.sqrt(low**2 + (high**2 - low**2) * u) - low) / (high - low)
            times.append(begin_s + stage.duration_s * x)
        return np.concatenate(times)

    def changed(
        self, *, rate: float | None = None, users: int | None = None, duration_s: float | None = None
    ) -> "Profile":
        """Change the load or the duration, scaling every stage by the same factor; raises LoadtestError."""
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
    """Load a profile by name or from a TOML file; raises LoadtestError."""
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if path.parent == PROFILES and not path.exists():
        known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.toml")))
        raise LoadtestError(f"there is no profile {name!r}, expected {known}, or a .toml file")
    return replace(parse(Profile, read_toml(path, "profile"), file=str(path)), name=path.stem)
