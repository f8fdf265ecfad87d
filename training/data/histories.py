"""Tag histories of all users, from their past pictures; sparse, as most users use few of the N tags."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.manifest import SPLITS, Manifest


@dataclass(frozen=True)
class Histories:
    """User u used the tags `indices[offsets[u] : offsets[u + 1]]`, sorted, as often as `counts` says there.

    `offsets` int64 [users + 1]; `indices` and `counts` int32, one for each tag of each user. `known` bool [users]: who
    has training pictures. Only their histories may shape a model.
    """

    tags: int
    offsets: NDArray[np.int64]
    indices: NDArray[np.int32]
    counts: NDArray[np.int32]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of users, those without a history included."""
        return len(self.offsets) - 1

    @property
    def is_new(self) -> NDArray[np.bool_]:
        """Who has a history but no training picture, bool [users]."""
        return ~self.known & (np.diff(self.offsets) > 0)

    def used(self, user: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the indices of one user's tags, and their counts."""
        mine = slice(self.offsets[user], self.offsets[user + 1])
        return self.indices[mine], self.counts[mine]

    def tag_counts(self, user: int, without: NDArray[np.integer] | None = None) -> NDArray[np.float32]:
        """Return one user's raw counts, float32 [N].

        `without`: the tags of one counted picture, to take out of the history (leave-one-out).
        """
        dense = np.zeros(self.tags, dtype=np.float32)
        indices, counts = self.used(user)
        dense[indices] = counts
        if without is not None:
            dense[without] -= 1
        return dense

    def total(self) -> torch.Tensor:
        """Return the counts over the known users, float [N]."""
        known = self._of_known()
        counts = np.bincount(self.indices[known], weights=self.counts[known], minlength=self.tags)
        return torch.from_numpy(counts).float()

    def users_per_tag(self) -> torch.Tensor:
        """Return how many known users have used each tag, float [N]."""
        return torch.from_numpy(np.bincount(self.indices[self._of_known()], minlength=self.tags)).float()

    def sample(self, users: int = 1000) -> torch.Tensor:
        """Return the raw counts of at most this many known users with a history, float [users, N]."""
        used = np.flatnonzero(self.known & (np.diff(self.offsets) > 0))
        step = max(1, len(used) // users)
        return torch.from_numpy(np.stack([self.tag_counts(user) for user in used[::step][:users]]))

    def least_similar(self, user: int) -> int:
        """Return the user whose history has the smallest cosine with this one's; of several, the first.

        Users without a history do not count.
        """
        own = self.tag_counts(user)[self.indices]
        owners = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        products = np.bincount(owners, weights=own * self.counts, minlength=len(self))
        squares = np.bincount(owners, weights=np.square(self.counts, dtype=np.float64), minlength=len(self))
        return int(np.argmin(np.where(squares > 0, products / np.sqrt(np.maximum(squares, 1)), np.inf)))

    def _of_known(self) -> NDArray[np.bool_]:
        """For each of `indices`, whether its user is known."""
        return np.repeat(self.known, np.diff(self.offsets))


def build_histories(manifest: Manifest) -> Histories:
    """Count each user's tags over the pictures of the splits train and history."""
    size = len(manifest.vocabulary)
    owners = manifest.users.copy()
    trains, counts_only = (manifest.split == SPLITS.index(split) for split in ("train", "history"))
    owners[~(trains | counts_only)] = -1  # sorts before every user
    known = np.zeros(len(manifest.user_names), dtype=np.bool_)
    known[manifest.users[trains]] = True
    keys = np.repeat(owners, manifest.tags.lengths)
    keys *= size
    keys += manifest.tags.values
    keys.sort()
    keys = keys[np.searchsorted(keys, 0) :]
    first = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    different = keys[starts]
    return Histories(
        tags=size,
        offsets=np.searchsorted(different, np.arange(len(manifest.user_names) + 1) * size),
        indices=(different % size).astype(np.int32),
        counts=np.diff(starts, append=len(keys)).astype(np.int32),
        known=known,
    )
