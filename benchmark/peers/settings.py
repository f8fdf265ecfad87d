"""How much is measured of the peers."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """The defaults are those of the figures in the docs."""

    rounds: int = 5
    """In each, every contestant is started, loaded and ended, in changing order: nothing else runs meanwhile."""
    warmup_s: float = 1.0
    """Before each window."""
    window_s: float = 4.0
    """Of measuring: one contestant, one load, one round."""
    clients: tuple[int, ...] = (1, 4, 16)
    """At once; the last saturate every contestant."""
    tuning_s: float = 3.0
    """A window under the last of `clients` for each tuning that is tried."""
    compared_pictures: int = 4
    """Whose tags have to be the same from all."""
    environments: Path = Path("build/peers")
