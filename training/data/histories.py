"""Tag histories u_h of all users, from their training pictures; sparse, as most users use few of the N tags."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from altreco_client.history import normalize
from numpy.typing import NDArray

from training.data.manifest import Manifest


@dataclass(frozen=True)
class Histories:
    """For each user the indices of the used tags and how often each was used."""

    tags: int
    indices: Sequence[NDArray[np.int64]]
    counts: Sequence[NDArray[np.int64]]

    def dense_counts(self, user: int) -> NDArray[np.float32]:
        """Counts of one user, float32 [N]."""
        dense = np.zeros(self.tags, dtype=np.float32)
        dense[self.indices[user]] = self.counts[user]
        return dense

    def total(self) -> torch.Tensor:
        """Counts over all users, float [N]."""
        total = torch.zeros(self.tags)
        for indices, counts in zip(self.indices, self.counts, strict=True):
            total[indices] += torch.from_numpy(counts).float()
        return total

    def sample(self, users: int = 1000) -> torch.Tensor:
        """u_h of at most so many users with a history, float [users, N]."""
        used = [user for user, indices in enumerate(self.indices) if len(indices)]
        step = max(1, len(used) // users)
        return torch.from_numpy(np.stack([self.vector(user) for user in used[::step][:users]]))

    def vector(self, user: int, without: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """u_h, float32 [N]; `without` takes one picture's tags out: leave-one-out, for a picture that was counted."""
        counts = self.dense_counts(user)
        if without is not None:
            counts[without] -= 1
        return normalize(counts)


def build_histories(manifest: Manifest) -> Histories:
    """Count each user's tags over the training pictures."""
    rows = manifest.rows("train")
    order = rows[np.argsort(manifest.users[rows], kind="stable")]
    per_user = np.split(order, np.searchsorted(manifest.users[order], np.arange(1, len(manifest.user_names))))
    none = np.empty(0, dtype=np.int64)
    counted = [
        np.unique(np.concatenate([none, *(manifest.tags[r] for r in mine)]), return_counts=True) for mine in per_user
    ]
    return Histories(len(manifest.vocabulary), [i for i, _ in counted], [c for _, c in counted])
