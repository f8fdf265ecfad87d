"""Memory over time: means of quarters, and a slope with its error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIB = 1024**2
BLOCKS = 12
"""That a slope is fitted to: single samples are much like their neighbours, and would make its error too small."""


@dataclass(frozen=True)
class Course:
    """MiB at moments, in seconds."""

    moments_s: Sequence[float]
    mib: Sequence[float]

    def quarters(self) -> list[float]:
        """The mean of each, MiB."""
        return [float(np.mean(part)) for part in np.array_split(np.asarray(self.mib), 4)]

    def growth(self) -> float:
        """From the second quarter to the last, MiB: the first one fills caches and pools."""
        _, second, _, last = self.quarters()
        return last - second

    def slope(self) -> tuple[float, float]:
        """MiB an hour from the second quarter on, and its standard error."""
        start = len(self.mib) // 4
        hours = _means(np.asarray(self.moments_s[start:]) / 3600)
        sizes = _means(np.asarray(self.mib[start:]))
        slope, at_zero = np.polyfit(hours, sizes, 1)
        left, spread = sizes - slope * hours - at_zero, hours - hours.mean()
        return float(slope), float(np.sqrt(left @ left / (BLOCKS - 2) / (spread @ spread)))

    def __str__(self) -> str:
        """For a figure."""
        _, second, _, last = self.quarters()
        slope, error = self.slope()
        quarters = f"{second:,.0f} MiB in the second quarter, {last:,.0f} MiB in the last"
        return f"{quarters}; {slope:+.0f} +- {error:.0f} MiB an hour"


def _means(values: np.ndarray) -> np.ndarray:
    return np.array([part.mean() for part in np.array_split(values, BLOCKS)])
