"""Memory over time: means per quarter, and a slope with its standard error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIB = 1024**2
BLOCKS = 12
"""Number of means that a slope is fitted to. Single samples are correlated and would make its error too small."""


@dataclass(frozen=True)
class Course:
    """Memory in MiB at times in seconds."""

    moments_s: Sequence[float]
    mib: Sequence[float]

    def quarters(self) -> list[float]:
        """Compute the mean of each quarter, MiB."""
        return [float(np.mean(part)) for part in np.array_split(np.asarray(self.mib), 4)]

    def growth(self) -> float:
        """Compute the growth from the second quarter to the last, MiB; the first one fills caches and pools."""
        _, second, _, last = self.quarters()
        return last - second

    def slope(self) -> tuple[float, float]:
        """Fit the growth from the second quarter on, MiB per hour; return it and its standard error."""
        start = len(self.mib) // 4
        hours = _means(np.asarray(self.moments_s[start:]) / 3600)
        sizes = _means(np.asarray(self.mib[start:]))
        slope, at_zero = np.polyfit(hours, sizes, 1)
        left, spread = sizes - slope * hours - at_zero, hours - hours.mean()
        return float(slope), float(np.sqrt(left @ left / (len(hours) - 2) / (spread @ spread)))

    def __str__(self) -> str:
        """Format the course as a figure of a report."""
        _, second, _, last = self.quarters()
        slope, error = self.slope()
        quarters = f"{second:,.0f} MiB in the second quarter, {last:,.0f} MiB in the last"
        return f"{quarters}; {slope:+.0f} +- {error:.0f} MiB an hour"


def _means(values: np.ndarray) -> np.ndarray:
    return np.array([part.mean() for part in np.array_split(values, BLOCKS) if len(part)])
