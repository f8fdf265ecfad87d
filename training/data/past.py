"""The pictures that a history counts, and the histories that some of them make."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import Manifest


@dataclass(frozen=True)
class PastPictures:
    """The manifest's rows of the splits train and history, by user: user u has `rows[offsets[u] : offsets[u + 1]]`.

    `rows` int64 [pictures], those of a user in the manifest's order; `offsets` int64 [users + 1].
    """

    manifest: Manifest
    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def of(self, user: int) -> NDArray[np.int64]:
        """Return the rows of one user."""
        return self.rows[self.offsets[user] : self.offsets[user + 1]]

    def tag_counts(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Count the tags of these rows: a history, float32 [N]."""
        tags = [self.manifest.tags[row] for row in rows.tolist()]
        size = len(self.manifest.vocabulary)
        return np.bincount(np.concatenate([*tags, np.empty(0, np.int32)]), minlength=size).astype(np.float32)

    def some(self, row: int, pictures: Sequence[int]) -> list[NDArray[np.float32]]:
        """Return a history, float32 [N], for each of these numbers of past pictures of the row's user.

        They are for evaluation on this row. Which pictures they count is random, but depends on the row alone; a longer
        history contains the shorter ones. A user with fewer pictures has the full history instead.
        """
        shuffled = np.random.default_rng(row).permutation(self.of(int(self.manifest.users[row])))
        return [self.tag_counts(shuffled[:count]) for count in pictures]


def past_pictures(manifest: Manifest) -> PastPictures:
    """Find every user's past pictures."""
    counted = np.sort(np.concatenate([manifest.rows("train"), manifest.rows("history")]))
    rows = counted[np.argsort(manifest.users[counted], kind="stable")]
    offsets = np.searchsorted(manifest.users[rows], np.arange(len(manifest.user_names) + 1))
    return PastPictures(manifest, rows, offsets)
