"""Settings of the sections `peers`, `overhead` and `arrivals`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """Settings of the sections `peers` and `overhead`. The figures in the docs were measured with the defaults."""

    rounds: int = 5
    """In each round every contestant is started, loaded and ended alone, in changing order."""
    warmup_s: float = 1.0
    """Warmup before each window."""
    window_s: float = 4.0
    """Measured time of one contestant in one load and round."""
    clients: tuple[int, ...] = (1, 4, 16, 32)
    """Numbers of concurrent clients; the last saturates every contestant."""
    tuning_s: float = 3.0
    """Measured time of each tuning, with the last of `clients`."""
    ways: int | None = None
    """Number of each contestant's tunings that are tried; None for all."""
    compared_pictures: int = 4
    """Pictures for which all contestants must return the same tags."""
    environments: Path = Path("build/peers")


@dataclass(frozen=True, kw_only=True)
class ArrivalSettings:
    """Settings of the section `arrivals`. The figures in the docs were measured with the defaults."""

    rounds: int = 5
    bursts: tuple[int, ...] = (2, 3, 6)
    """Numbers of requests in a burst on an idle server."""
    spacing_s: float = 0.005
    """Time between two requests of a burst."""
    repeats: int = 4
    """Bursts of each size in a round."""
    idle_s: float = 0.3
    """Pause before each burst."""
    share: float = 1 / 3
    """Rate of the open load, as a share of the rate that the ensemble reaches with `saturating` clients."""
    open_s: float = 15.0
    """Time of the open load in a round."""
    saturating: int = 16
    warmup_s: float = 1.0
    environments: Path = Path("build/peers")
