"""Workloads: popularity of pictures and users, lengths of histories, sizes of batches."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from altreco_client import contract
from altreco_client.checks import MAX_SECONDS
from numpy.typing import NDArray

from loadtest.parse import parse, read_toml

WORKLOADS = Path(__file__).parents[1] / "workloads"
DEFAULT = WORKLOADS / "uploads.toml"


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A share of new pictures, which no cache can hold; the others come from a catalogue by popularity."""

    new_share: float
    catalogue: int
    exponent: float
    """Exponent of Zipf's law: requests for the i-th most popular picture are proportional to 1 / i^exponent."""
    decode_share: float = 0.0
    """Share of pictures that come as photos, decoded by the client as part of the request."""
    photo_sizes: tuple[tuple[int, int], ...] = ()
    """Width and height of the drawn photos."""
    folder: str = ""
    """Folder of JPEG and PNG files to use in place of drawn pictures."""

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        _shares(self, "new_share", "decode_share")
        _at_least(self, 1, "catalogue")
        _at_least(self, 0, "exponent")
        if any(min(size) < 1 for size in self.photo_sizes):
            raise ValueError(f"photo_sizes are {self.photo_sizes}, expected width and height of 1 or more")
        if self.folder and self.photo_sizes:
            raise ValueError("photo_sizes are for drawn photos, expected none with a folder")
        if not self.folder and bool(self.photo_sizes) != (self.decode_share > 0):
            raise ValueError("decode_share and photo_sizes belong together, expected both or none (or a folder)")


@dataclass(frozen=True, kw_only=True)
class Users:
    """The users: a share without history, and one with the tags of one or two pictures.

    The others have longer histories and differ in activity (Zipf).
    """

    count: int
    exponent: float
    cold_share: float
    new_share: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        _at_least(self, 1, "count")
        _at_least(self, 0, "exponent")
        _shares(self, "cold_share", "new_share")
        if self.cold_share + self.new_share > 1:
            raise ValueError(
                f"cold_share and new_share sum to {self.cold_share + self.new_share:g}, expected at most 1"
            )


@dataclass(frozen=True, kw_only=True)
class History:
    """Number of distinct tags of a user (log-normal around the median), chosen from the vocabulary by Zipf's law.

    A tag has the raw count c in proportion to 1 / c^count_exponent.
    """

    median_tags: float
    sigma: float
    exponent: float
    count_exponent: float = 2.0

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        _at_least(self, 1, "median_tags")
        _at_least(self, 0, "sigma", "exponent", "count_exponent")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Share of requests that have `rows` pictures."""

    rows: int
    share: float

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        if not 1 <= self.rows <= contract.MAX_BATCH_SIZE:
            raise ValueError(f"rows is {self.rows}, expected 1 to {contract.MAX_BATCH_SIZE}")
        _shares(self, "share")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A complete workload; equal seeds draw equal requests."""

    pictures: Pictures
    users: Users
    history: History
    batches: tuple[Batch, ...]
    k: int = 5
    deadline_s: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        _at_least(self, 1, "k")
        _at_least(self, 0, "seed")
        if not 0 < self.deadline_s <= MAX_SECONDS:
            raise ValueError(f"deadline_s is {self.deadline_s:g}, expected seconds above 0, at most {MAX_SECONDS:,}")
        total = sum(batch.share for batch in self.batches)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"batches have shares that sum to {total:g}, expected 1")


def load_workload(path: Path) -> Workload:
    """Read and check a workload; raises LoadtestError."""
    return parse(Workload, read_toml(path, "workload"), file=str(path))


def zipf_shares(count: int, exponent: float) -> NDArray[np.float64]:
    """Compute shares [count] by Zipf's law, the most popular first; they sum to 1."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def _shares(table: object, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(table, name) <= 1:
            raise ValueError(f"{name} is {getattr(table, name):g}, expected a share, 0 to 1")


def _at_least(table: object, least: float, *names: str) -> None:
    for name in names:
        if not least <= getattr(table, name) < float("inf"):
            raise ValueError(f"{name} is {getattr(table, name):g}, expected {least:g} or more")
