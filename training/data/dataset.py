"""Data sets and loaders: batches of tensors from the rows of a manifest."""

import math
import multiprocessing
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from altreco_client import InvalidImage
from altreco_client.contract import IMAGE
from altreco_client.images import load_crop
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from training.data.histories import Histories
from training.data.manifest import Manifest
from training.data.shards import picture_of
from training.data.worker import end_with_parent
from training.errors import DataError
from training.settings import TrainSettings


@dataclass(frozen=True)
class Batch:
    """`image` uint8 [batch, 224, 224, 3]; `counts` float [batch, N], the users' histories as raw counts; `tags` 0/1
    float [batch, N]; `user` int64 [batch]; in training, `noise` float [batch, N] uniform in [0, 1) for the jitter of
    equation 7, else [batch, 0]. `unreadable`: why the picture of a row of the manifest could not be read.
    """

    image: Tensor
    counts: Tensor
    tags: Tensor
    user: Tensor
    noise: Tensor
    unreadable: Mapping[int, str] = field(default_factory=dict, kw_only=True)

    def to(self, device: torch.device) -> "Batch":
        """Copy the tensors to a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Copy the tensors to pinned memory; DataLoader calls this."""
        return self._each(lambda tensor: tensor.pin_memory())

    def split(self, pieces: int) -> list["Batch"]:
        """Return so many parts of nearly the same size, as views."""
        parts = zip(*(getattr(self, name).tensor_split(pieces) for name in TENSORS), strict=True)
        return [Batch(*tensors) for tensors in parts]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(*(change(getattr(self, name)) for name in TENSORS), unreadable=self.unreadable)


TENSORS = tuple(each.name for each in fields(Batch) if each.name != "unreadable")

Item = tuple[
    NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], np.int64, NDArray[np.float32], Mapping[int, str]
]
"""One picture's part of a Batch."""

ATTEMPTS = 10
"""Pictures tried for one place in a batch, if the ones before cannot be read."""

GREY = 128
"""Pixels in place of a picture that cannot be read, where no other picture may stand for it."""


@dataclass(frozen=True)
class Unreadable:
    """The pictures that could not be read so far: row of the manifest to reason.

    `share` of the manifest's pictures, rounded up, may be unreadable.
    """

    share: float = 0.0
    found: dict[int, str] = field(default_factory=dict)

    def add(self, batch: Batch, pictures: int) -> None:
        """Say which ones are new, on stderr; raises DataError if there are too many among so many `pictures`."""
        for row, reason in batch.unreadable.items():
            if row in self.found:
                continue
            self.found[row] = reason
            if len(self.found) > math.ceil(self.share * pictures):
                beside = f"; {len(self.found)} of {pictures} pictures cannot be read, more than a share of {self.share}"
                raise DataError(reason + beside * (self.share > 0))
            tqdm.write(f"left out: {reason}", file=sys.stderr)


class TrainingPictures(Dataset):
    """Training pictures, cropped and flipped at random.

    An item depends only on seed, epoch and row, so it is the same with any number of workers and processes, and after
    a resume. Another training picture, which depends on these too, takes the place of one that cannot be read.
    """

    def __init__(self, manifest: Manifest, histories: Histories, settings: TrainSettings, *, images: bool) -> None:
        """Keep what a worker process needs. Without `images`, as for the auto-encoder alone, no file is read."""
        self.manifest, self.histories, self.settings, self.images = manifest, histories, settings, images
        self.rows = manifest.rows("train")

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """Return one picture with its user's history, leave-one-out unless the settings say otherwise."""
        epoch, row = key
        rng = np.random.default_rng([self.settings.seed, epoch, row])
        x, y, flip, hidden = rng.random(4)
        image, unreadable = np.empty((0, *IMAGE.dims[1:]), dtype=np.uint8), dict[int, str]()
        for attempt in range(ATTEMPTS if self.images else 0):
            try:
                image = _read(self.manifest, row, x, y)
                break
            except DataError as error:
                if attempt == ATTEMPTS - 1:
                    raise
                unreadable[row] = str(error)
                row = int(rng.choice(self.rows))
        if flip < 0.5:
            image = image[:, ::-1]
        user = self.manifest.users[row]
        without = None if self.settings.include_query_image else self.manifest.tags[row]
        counts = self.histories.tag_counts(user, without)
        if hidden < self.settings.history_dropout:
            counts = np.zeros_like(counts)
        noise = rng.random(len(counts), dtype=np.float32)
        return np.ascontiguousarray(image), counts, self.manifest.multi_hot(row), user, noise, unreadable


class EvaluationPictures(Dataset):
    """Pictures, centre crop, with the whole histories of their users."""

    def __init__(
        self, manifest: Manifest, histories: Histories, rows: NDArray[np.int64], *, grey: bool = False
    ) -> None:
        """`rows` of the manifest, none of them counted in `histories`. `grey`: in place of what cannot be read."""
        self.manifest, self.histories, self.rows, self.grey = manifest, histories, rows, grey

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        """Return one picture; raises DataError where it cannot be read, unless it is to be grey then."""
        row = int(self.rows[index])
        user = self.manifest.users[row]
        unreadable = dict[int, str]()
        try:
            image = _read(self.manifest, row)
        except DataError as error:
            if not self.grey:
                raise
            image, unreadable[row] = np.full(IMAGE.dims, GREY, dtype=np.uint8), str(error)
        noise = np.empty(0, dtype=np.float32)
        return image, self.histories.tag_counts(user), self.manifest.multi_hot(row), user, noise, unreadable


class ShuffledEpochs(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, row) for all epochs, from step `start` on; an epoch's last, smaller batch is left out.

    With several processes, each gets every `processes`-th picture of each batch; their numbers may differ by one.
    """

    def __init__(
        self, rows: NDArray[np.int64], settings: TrainSettings, *, start: int = 0, process: int = 0, processes: int = 1
    ) -> None:
        """`rows` of the training split."""
        self.rows, self.settings, self.start, self.process, self.processes = rows, settings, start, process, processes
        self.batch_size = min(settings.batch_size, len(rows))
        self.steps_per_epoch = len(rows) // self.batch_size
        self.steps = settings.epochs * self.steps_per_epoch

    def __len__(self) -> int:
        """Return the number of remaining steps."""
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield one list of keys per step."""
        first, skipped = divmod(self.start, self.steps_per_epoch)
        for epoch in range(first, self.settings.epochs):
            order = np.random.default_rng([self.settings.seed, epoch]).permutation(self.rows)
            for step in range(skipped if epoch == first else 0, self.steps_per_epoch):
                batch = order[step * self.batch_size : (step + 1) * self.batch_size]
                yield [(epoch, int(row)) for row in batch[self.process :: self.processes]]


def training_batches(
    pictures: TrainingPictures, sampler: ShuffledEpochs, workers: int, unreadable: Unreadable | None = None
) -> Generator[Batch, None, None]:
    """Yield the batches of `sampler`; raises DataError for more pictures than `unreadable` allows, at first none."""
    return _batches(pictures, workers, unreadable, batch_sampler=sampler)


def evaluation_batches(
    manifest: Manifest,
    histories: Histories,
    rows: NDArray[np.int64],
    workers: int,
    batch_size: int = 50,
    unreadable: Unreadable | None = None,
) -> Iterator[Batch]:
    """Yield the rows in order; raises DataError for more pictures than `unreadable` allows, at first none."""
    pictures = EvaluationPictures(manifest, histories, rows, grey=True)
    return _batches(pictures, workers, unreadable, batch_size=batch_size)


def _batches(
    pictures: TrainingPictures | EvaluationPictures, workers: int, unreadable: Unreadable | None, **options: object
) -> Generator[Batch, None, None]:
    unreadable = unreadable or Unreadable()
    multiprocessing.set_forkserver_preload(["torch"])  # imported once, not by each worker
    loader = DataLoader(
        pictures,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        # A fork of a process with threads, as torch has, may deadlock.
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=end_with_parent,
        **options,  # type: ignore[arg-type]
    )
    try:
        for batch in loader:
            unreadable.add(batch, len(pictures.manifest.users))
            yield batch
    except DataError as error:
        # From a worker process, the message starts with that process's traceback.
        raise DataError(str(error).rstrip().rsplit("DataError: ", 1)[-1]) from None


def _collate(items: list[Item]) -> Batch:
    *columns, unreadable = zip(*items, strict=True)
    reasons = {row: reason for of_item in unreadable for row, reason in of_item.items()}
    return Batch(*(torch.from_numpy(np.stack(column)) for column in columns), unreadable=reasons)


def _read(manifest: Manifest, row: int, x: float = 0.5, y: float = 0.5) -> NDArray[np.uint8]:
    try:
        return load_crop(picture_of(manifest, row), x, y)
    except InvalidImage as error:
        name = "" if manifest.spans is None else f" ({manifest.images[row]!r})"
        raise DataError(f"picture {row} of the manifest{name}: {error}") from error
