"""Train the full model: `python -m training.train --data DIR --out CHECKPOINT [--preset small]`."""

import argparse
import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch.optim import Optimizer
from tqdm import tqdm

from training.checkpoint import Checkpoint, save_checkpoint
from training.data.dataset import Batch, training_batches
from training.data.histories import build_histories
from training.data.manifest import read_manifest
from training.errors import TrainingError
from training.evaluate import evaluate, format_metrics
from training.losses import discriminator_loss, network_losses
from training.model import ALTReco, Discriminator
from training.settings import PRESETS, TrainSettings, preset


def train(settings: TrainSettings, data: Path, out: Path, *, workers: int = 2, quiet: bool = False) -> Checkpoint:
    """Train, evaluate on the test split and write the checkpoint; raises TrainingError."""
    manifest = read_manifest(data)
    histories = build_histories(manifest)
    torch.manual_seed(settings.seed)
    network = ALTReco(settings.model, len(manifest.vocabulary))
    discriminator = Discriminator(len(manifest.vocabulary))
    network.start_from(histories.total() / len(manifest.rows("train")), histories.sample())
    batches = training_batches(manifest, histories, settings, workers)
    players = Players(network, discriminator, _optimizer(network, settings), _optimizer(discriminator, settings))
    schedules = [_schedule(optimizer, settings, len(batches)) for optimizer in players.optimizers]

    network.train()
    progress = tqdm(batches, "train", unit="step", disable=quiet)
    for batch in progress:
        losses = step(players, batch, settings)
        if not all(map(math.isfinite, losses.values())):
            raise TrainingError(f"the loss became {losses} at step {progress.n}: lower the learning rate")
        for schedule in schedules:
            schedule.step()
        progress.set_postfix({name: f"{value:.4f}" for name, value in losses.items() if name != "total"})

    metrics = evaluate(network, manifest, histories, workers=workers, quiet=quiet)
    checkpoint = Checkpoint(model=network, settings=settings, vocabulary=manifest.vocabulary, metrics=metrics)
    save_checkpoint(out, checkpoint)
    return checkpoint


@dataclass(frozen=True)
class Players:
    """The network and its adversary D, each with its optimizer."""

    network: ALTReco
    discriminator: Discriminator
    network_optimizer: Optimizer
    discriminator_optimizer: Optimizer

    @property
    def optimizers(self) -> tuple[Optimizer, Optimizer]:
        """Both."""
        return self.network_optimizer, self.discriminator_optimizer


def step(players: Players, batch: Batch, settings: TrainSettings) -> dict[str, float]:
    """One alternating step (paper, section IV-B): first the network against a fixed D, then D against its output."""
    players.discriminator.requires_grad_(False)
    prediction = players.network(batch.image, batch.history)
    losses = network_losses(prediction, batch.tags, batch.history, players.discriminator, settings.loss)
    players.network_optimizer.zero_grad()
    losses["total"].backward()
    players.network_optimizer.step()

    players.discriminator.requires_grad_(True)
    against = discriminator_loss(prediction.generalized, batch.tags, players.discriminator)
    players.discriminator_optimizer.zero_grad()
    against.backward()
    players.discriminator_optimizer.step()
    return {name: loss.item() for name, loss in {**losses, "discriminator": against}.items()}


def _optimizer(module: torch.nn.Module, settings: TrainSettings) -> Optimizer:
    if settings.optimizer == "adadelta":
        return torch.optim.Adadelta(module.parameters(), lr=settings.learning_rate)
    return torch.optim.AdamW(module.parameters(), lr=settings.learning_rate)


def _schedule(optimizer: Optimizer, settings: TrainSettings, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=settings.learning_rate, total_steps=steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def main() -> int:
    """Train as the command line says; 0, or 1 with the reason on stderr."""
    arguments = _parser().parse_args()
    names = {field.name for field in fields(TrainSettings)} - {"preset"}
    changes = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    try:
        settings = preset(arguments.preset, **changes)
        checkpoint = train(settings, arguments.data, arguments.out, workers=arguments.workers)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_metrics(checkpoint.metrics))
    print(f"wrote {arguments.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data set folder with manifest.parquet")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--preset", default="paper", help=f"one of {', '.join(PRESETS)} (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--batch-size", type=int, help="instead of the preset's")
    parser.add_argument("--learning-rate", type=float, help="instead of the preset's")
    parser.add_argument("--seed", type=int, help="instead of the preset's")
    parser.add_argument("--workers", type=int, default=2, help="processes that read pictures (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
