"""Training of the methods whose backbone learns too: A1's pictures, crops, order and precision, another loss."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from training.data.dataset import Batch, ShuffledEpochs, TrainingPictures, evaluation_batches, training_batches
from training.loop import autocast
from training.methods.task import Task
from training.model import ALTReco

Loss = Callable[[Batch, NDArray[np.int64]], Tensor]
"""A scalar from a batch on the device and its rows of the manifest."""


def fresh_visual_net(task: Task) -> ALTReco:
    """A1 before its training, with the weights that A1 started from."""
    settings, histories = task.settings, task.histories
    torch.manual_seed(settings.seed)
    network = ALTReco(settings.model, histories.tags)
    if settings.model.backbone.weights is not None:
        network.visual_encoder.load_pretrained(settings.model.backbone.weights)
    network.start_from(
        pictures=len(task.manifest.rows("train")),
        total=histories.total(),
        users=histories.users_per_tag(),
        histories=histories.sample(),
    )
    return network


def train_as_a1(task: Task, module: nn.Module, loss: Loss) -> None:
    """Train with A1's optimizer and schedule."""
    settings, rate = task.settings, task.settings.learning_rate
    optimizer = (torch.optim.Adadelta if settings.optimizer == "adadelta" else torch.optim.AdamW)(
        module.parameters(), lr=rate
    )
    one_cycle = settings.schedule == "one_cycle"
    schedule = OneCycleLR(optimizer, max_lr=rate, total_steps=_sampler(task).steps) if one_cycle else None
    train_on_pictures(task, module, loss, optimizer, schedule)


def train_on_pictures(
    task: Task, module: nn.Module, loss: Loss, optimizer: Optimizer, schedule: LRScheduler | None = None
) -> None:
    """Train for as many epochs as A1; leave the module in evaluation mode."""
    sampler = _sampler(task)
    pictures = TrainingPictures(task.manifest, task.histories, task.settings, images=True)
    module.train()
    for keys, batch in zip(sampler, training_batches(pictures, sampler, task.workers), strict=True):
        with autocast(task.settings, task.device):
            value = loss(batch.to(task.device), np.array([row for _, row in keys]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    module.eval()


def _sampler(task: Task) -> ShuffledEpochs:
    return ShuffledEpochs(task.manifest.rows("train"), task.settings)


@torch.inference_mode()
def batches_of(task: Task, rows: NDArray[np.int64]) -> Iterator[tuple[Batch, NDArray[np.int64]]]:
    """Batches of these rows on the device, centre crop, each with its rows."""
    done = 0
    for batch in evaluation_batches(task.manifest, task.histories, rows, task.workers):
        yield batch.to(task.device), rows[done : done + len(batch.user)]
        done += len(batch.user)
