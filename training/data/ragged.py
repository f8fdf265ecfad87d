"""Rows of different lengths in two flat arrays: tens of millions of rows cost no Python object each, and worker
processes share the arrays' memory, which they would copy page by page if they counted references in it.
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
        """From the lengths of all rows and their values, both in pieces."""
        return cls(np.concatenate([np.zeros(1, dtype=np.int64), *lengths]).cumsum(), np.concatenate(values))

    def __len__(self) -> int:
        """How many rows."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        """One row, a view; `row` from 0, as no caller counts from the end."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of each row, int64 [rows]."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Texts:
    """One string a row."""

    utf8: Ragged

    def __len__(self) -> int:
        """How many strings."""
        return len(self.utf8)

    def __getitem__(self, row: int) -> str:
        """One string."""
        return self.utf8[row].tobytes().decode()
