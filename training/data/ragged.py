"""Rows of different lengths in two flat arrays.

Tens of millions of rows need no Python object each. Worker processes share the arrays' memory; objects with reference
counts would be copied page by page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """Row i is `values[offsets[i] : offsets[i + 1]]`; `offsets` int64 [rows + 1]."""

    offsets: NDArray[np.int64]
    values: NDArray[Any]

    @classmethod
    def from_parts(cls, lengths: Sequence[NDArray[np.integer]], values: Sequence[NDArray[Any]]) -> "Ragged":
        """Join the lengths and the values of all rows, both given in pieces."""
        return cls(np.concatenate([np.zeros(1, dtype=np.int64), *lengths]).cumsum(), np.concatenate(values))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        """Return a row as a view; `row` is not negative."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each row, int64 [rows]."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Texts:
    """One string per row."""

    utf8: Ragged

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self.utf8)

    def __getitem__(self, row: int) -> str:
        """Return a string."""
        return self.utf8[row].tobytes().decode()
