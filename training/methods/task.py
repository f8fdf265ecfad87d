"""What a comparison method gets: the trained visual net A1, the data, and its pictures as A1 sees them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.histories import Histories
from training.data.manifest import Manifest
from training.evaluate import encoded_batches, recommend
from training.metrics import tagging_metrics
from training.model import ALTReco
from training.settings import TrainSettings

MAX_TRAINING_PICTURES = 50_000
"""Most training pictures that methods see, chosen at random: they hold tags dense in memory."""

Option = TypeVar("Option")


@dataclass(frozen=True)
class Seen:
    """Some pictures through the visual net, on the CPU: `features` [pictures, D], e's mean over its positions;
    `scores` and `tags` [pictures, N]; `counts` [pictures, N], the user's history as counts; `users` [pictures].
    """

    features: Tensor
    scores: Tensor
    tags: Tensor
    counts: Tensor
    users: Tensor


@dataclass(frozen=True)
class Task:
    """`settings`: those of `visual_net`'s training, whose seed is the method's. `device`: of methods that train a
    backbone. The splits are looked at when first asked for, so that a method pays for those alone that it uses.
    """

    visual_net: ALTReco
    manifest: Manifest
    histories: Histories
    settings: TrainSettings
    device: torch.device
    workers: int

    @cached_property
    def train_rows(self) -> NDArray[np.int64]:
        """The manifest's rows of `train`."""
        return np.random.default_rng(0).permutation(self.manifest.rows("train"))[:MAX_TRAINING_PICTURES]

    @cached_property
    def train(self) -> Seen:
        """The training pictures, in random order."""
        return self._look(self.train_rows)

    @cached_property
    def validation(self) -> Seen:
        """Pictures to choose by, which the visual net was not trained on."""
        return self._look(self.manifest.rows("validation"))

    @cached_property
    def test(self) -> Seen:
        """The test pictures."""
        return self._look(self.manifest.rows("test"))

    def _look(self, rows: NDArray[np.int64]) -> Seen:
        features, scores, tags, counts, users = [], [], [], [], []
        for encoding, batch in encoded_batches(self.visual_net, self.manifest, self.histories, rows, self.workers):
            features.append(encoding.float().mean((2, 3)).cpu())
            scores.append(recommend(self.visual_net, encoding, batch.counts))
            tags.append(batch.tags.cpu())
            counts.append(batch.counts.cpu())
            users.append(batch.user.cpu())
        return Seen(*map(torch.cat, (features, scores, tags, counts, users)))


def best(options: Iterable[Option], scores: Callable[[Option], Tensor], tags: Tensor, k: int = 5) -> Option:
    """The option whose scores [pictures, N] have the best precision@k; of equals, the first.

    Raises DataError with fewer than k tags or without a tagged picture.
    """
    return max(options, key=lambda option: precision(scores(option), tags, k))


def precision(scores: Tensor, tags: Tensor, k: int = 5) -> float:
    """precision@k of scores [pictures, N] on pictures with `tags` 0/1 [pictures, N]; raises DataError as `best`."""
    return tagging_metrics(scores, tags, ks=(k,))[f"precision@{k}"]
