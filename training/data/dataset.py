"""From the manifest to batches of tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from altreco_client.images import crop, load_rgb
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from training.data.histories import Histories
from training.data.manifest import Manifest
from training.settings import TrainSettings


@dataclass(frozen=True)
class Batch:
    """`image` uint8 [batch, 224, 224, 3], `history` u_h float [batch, N], `tags` 0/1 float [batch, N]."""

    image: Tensor
    history: Tensor
    tags: Tensor


class TrainingPictures(Dataset):
    """Training pictures, cropped and flipped at random; keyed by (epoch, row), so that what comes out depends on
    nothing but seed, epoch and row, on any number of workers.
    """

    def __init__(self, manifest: Manifest, histories: Histories, settings: TrainSettings) -> None:
        """Keep what a worker process needs."""
        self.manifest, self.histories, self.settings = manifest, histories, settings

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One picture with its user's history, leave-one-out unless the settings include the query image."""
        epoch, row = key
        rng = np.random.default_rng([self.settings.seed, epoch, row])
        image = crop(load_rgb(_path(self.manifest, row)), *rng.random(2))
        if rng.random() < 0.5:
            image = image[:, ::-1]
        without = None if self.settings.include_query_image else self.manifest.tags[row]
        history = self.histories.vector(self.manifest.users[row], without)
        if rng.random() < self.settings.history_dropout:
            history = np.zeros_like(history)
        return np.ascontiguousarray(image), history, self.manifest.multi_hot(row)


class EvaluationPictures(Dataset):
    """Test pictures, centre crop, with their users' histories over the training pictures."""

    def __init__(self, manifest: Manifest, histories: Histories) -> None:
        """All rows of the test split."""
        self.manifest, self.histories, self.rows = manifest, histories, manifest.rows("test")

    def __len__(self) -> int:
        """How many test pictures there are."""
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One picture."""
        row = self.rows[index]
        image = crop(load_rgb(_path(self.manifest, row)))
        return image, self.histories.vector(self.manifest.users[row]), self.manifest.multi_hot(row)


class ShuffledEpochs(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, row) over all epochs; the last, smaller batch of an epoch is left out."""

    def __init__(self, rows: np.ndarray, settings: TrainSettings) -> None:
        """`rows` of the training split."""
        self.rows, self.settings = rows, settings
        self.batch_size = min(settings.batch_size, len(rows))

    def __len__(self) -> int:
        """Steps over all epochs."""
        return self.settings.epochs * (len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """One list of keys a step."""
        for epoch in range(self.settings.epochs):
            order = np.random.default_rng([self.settings.seed, epoch]).permutation(self.rows)
            for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
                yield [(epoch, int(row)) for row in order[start : start + self.batch_size]]


def training_batches(manifest: Manifest, histories: Histories, settings: TrainSettings, workers: int) -> DataLoader:
    """All steps of a run as `Batch`es."""
    return DataLoader(
        TrainingPictures(manifest, histories, settings),
        batch_sampler=ShuffledEpochs(manifest.rows("train"), settings),
        num_workers=workers,
        collate_fn=_collate,
    )


def evaluation_batches(manifest: Manifest, histories: Histories, workers: int, batch_size: int = 50) -> DataLoader:
    """The test split as `Batch`es, in order."""
    return DataLoader(
        EvaluationPictures(manifest, histories), batch_size=batch_size, num_workers=workers, collate_fn=_collate
    )


def _collate(items: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Batch:
    return Batch(*(torch.from_numpy(np.stack(column)) for column in zip(*items, strict=True)))


def _path(manifest: Manifest, row: int) -> Path:
    return manifest.root / manifest.images[row]
