"""The loop of a training run: phases, the alternating step, and the state from which a killed run continues."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR
from tqdm import tqdm

from training.data.dataset import Batch, ShuffledEpochs, TrainingPictures, training_batches
from training.data.histories import Histories
from training.data.manifest import Manifest
from training.distributed import Processes
from training.errors import TrainingError
from training.losses import discriminator_loss, judged_tags, network_losses
from training.metrics_log import MetricsLog
from training.model import ALTReco, AutoEncoder, Discriminator
from training.settings import LossSettings, TrainSettings
from training.state import Progress, save_state

LOG_EVERY = 10
"""Steps between two entries of the metrics log."""

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that stays the same throughout a run; `validate` returns the figure for early stopping."""

    settings: TrainSettings
    manifest: Manifest
    histories: Histories
    network: ALTReco
    discriminator: Discriminator
    processes: Processes
    validate: Callable[[], float]
    log: MetricsLog
    state: Path
    fingerprint: str
    workers: int
    save_every: int
    quiet: bool


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own losses; each step calls `module`."""

    name: str
    module: nn.Module
    loss: LossSettings
    epochs: int
    images: bool


@dataclass(frozen=True)
class Players:
    """The network and its adversary D, as the steps call them, with their optimizers and schedules."""

    network: nn.Module
    discriminator: nn.Module
    bare_discriminator: Discriminator
    optimizers: tuple[Optimizer, Optimizer]
    schedules: tuple[LRScheduler, LRScheduler]

    def state_dict(self) -> dict[str, Any]:
        """Return the states of optimizers and schedules."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        for schedule, values in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(values)


def phases(settings: TrainSettings, network: ALTReco) -> list[Phase]:
    """Return the joint phase alone, or the auto-encoder's phase followed by the rest with U_E frozen (A3)."""
    everything = Phase("train", network, settings.loss, settings.epochs, images=True)
    if settings.joint:
        return [everything]
    alone = replace(settings.loss, alpha=0.0, beta=0.0, theta=0.0)
    rest = replace(settings.loss, gamma=0.0)
    return [
        Phase("auto-encoder", AutoEncoder(network), alone, settings.autoencoder_epochs, images=False),
        replace(everything, loss=rest),
    ]


def run_phases(run: Run, progress: Progress, saved: Mapping[str, Any] | None) -> int:
    """Train from `progress` on, which was read from the state `saved`; return the number of steps in all phases.

    The network ends with its best weights.
    """
    for index, phase in enumerate(phases(run.settings, run.network)):
        if phase.loss.gamma == 0:
            _freeze_autoencoder(run.network)
        if index < progress.phase:
            continue
        progress, best_weights = _run_phase(run, phase, progress, saved)
        progress, saved = Progress(phase=index + 1, steps_in_all=progress.steps_in_all), None
        if best_weights is not None:
            run.network.load_state_dict(best_weights)
    return progress.steps_in_all


def _run_phase(
    run: Run, phase: Phase, progress: Progress, saved: Mapping[str, Any] | None
) -> tuple[Progress, Weights | None]:
    """Do the remaining steps of one phase; with early stopping, also return the weights of the best epoch."""
    group = run.processes
    sampler = ShuffledEpochs(
        run.manifest.rows("train"),
        replace(run.settings, epochs=phase.epochs),
        start=progress.step,
        process=group.rank,
        processes=group.count,
    )
    players = _players(run, phase, sampler.steps)
    best_weights = None
    if saved is not None:
        players.load_state_dict(saved["players"])
        best_weights = saved["best_weights"]
    validates = run.settings.patience > 0 and phase.images
    precision = autocast(run.settings, group.device)
    pictures = TrainingPictures(run.manifest, run.histories, run.settings, images=phase.images)
    phase.module.train()
    batches = tqdm(
        training_batches(pictures, sampler, run.workers),
        phase.name,
        total=sampler.steps,
        initial=progress.step,
        unit="step",
        disable=run.quiet or not group.first,
    )
    for batch in batches:
        if validates and progress.stale_epochs >= run.settings.patience:
            break
        losses = _finite(group.mean_of(step(players, batch.to(group.device), phase.loss, precision)), progress)
        progress = replace(progress, step=progress.step + 1, steps_in_all=progress.steps_in_all + 1)
        batches.set_postfix({name: f"{value:.4f}" for name, value in losses.items() if name != "total"})
        if progress.step % LOG_EVERY == 0 or progress.step == sampler.steps:
            run.log.add(phase.name, losses, progress.steps_in_all)
        epoch_ends = progress.step % sampler.steps_per_epoch == 0
        if validates and epoch_ends:
            progress, best_weights = _validated(run, progress, best_weights)
        if epoch_ends or progress.step % run.save_every == 0:
            _save(run, progress, players, best_weights)
    return progress, best_weights


def _finite(losses: Mapping[str, float], progress: Progress) -> Mapping[str, float]:
    if not all(map(math.isfinite, losses.values())):
        raise TrainingError(f"the loss became {dict(losses)} after step {progress.step}: lower the learning rate")
    return losses


def step(players: Players, batch: Batch, loss: LossSettings, precision: torch.autocast) -> dict[str, torch.Tensor]:
    """Do one alternating step (paper, section IV-B): the network against a fixed D, then D against its output."""
    if loss.theta:
        players.bare_discriminator.requires_grad_(False)
    with precision:
        prediction = players.network(batch.image, batch.counts)
        losses = network_losses(prediction, batch.tags, batch.counts, players.bare_discriminator, loss)
    _advance(players.optimizers[0], players.schedules[0], losses["total"])

    if loss.theta:
        players.bare_discriminator.requires_grad_(True)
        with precision:
            fake = judged_tags(prediction, loss)
            losses["discriminator"] = discriminator_loss(fake, batch.tags, batch.noise, players.discriminator)
        _advance(players.optimizers[1], players.schedules[1], losses["discriminator"])
    return {name: value.detach() for name, value in losses.items()}


def _advance(optimizer: Optimizer, schedule: LRScheduler, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


def _validated(run: Run, progress: Progress, best_weights: Weights | None) -> tuple[Progress, Weights | None]:
    """Evaluate the validation pictures, and keep the weights if they are the best so far."""
    figure = run.processes.same_for_all(run.validate() if run.processes.first else 0.0)
    run.network.train()
    run.log.add("validation", {"precision@5": figure}, progress.steps_in_all)
    if figure > progress.best:
        weights = {name: value.detach().clone() for name, value in run.network.state_dict().items()}
        return replace(progress, best=figure, stale_epochs=0), weights
    return replace(progress, stale_epochs=progress.stale_epochs + 1), best_weights


def _save(run: Run, progress: Progress, players: Players, best_weights: Weights | None) -> None:
    if run.processes.first:
        run.log.flush()
        weights = {
            "network": run.network.state_dict(),
            "discriminator": run.discriminator.state_dict(),
            "players": players.state_dict(),
            "best_weights": best_weights,
        }
        save_state(run.state, run.fingerprint, progress, weights)


def _players(run: Run, phase: Phase, steps: int) -> Players:
    optimizers = _optimizer(phase.module, run.settings), _optimizer(run.discriminator, run.settings)
    return Players(
        network=run.processes.wrap(phase.module),
        discriminator=run.processes.wrap(run.discriminator) if phase.loss.theta else run.discriminator,
        bare_discriminator=run.discriminator,
        optimizers=optimizers,
        schedules=(_schedule(optimizers[0], run.settings, steps), _schedule(optimizers[1], run.settings, steps)),
    )


def _optimizer(module: nn.Module, settings: TrainSettings) -> Optimizer:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if settings.optimizer == "adadelta":
        return torch.optim.Adadelta(trained, lr=settings.learning_rate)
    return torch.optim.AdamW(trained, lr=settings.learning_rate)


def _schedule(optimizer: Optimizer, settings: TrainSettings, steps: int) -> LRScheduler:
    if settings.schedule == "one_cycle":
        return OneCycleLR(optimizer, max_lr=settings.learning_rate, total_steps=steps)
    return ConstantLR(optimizer, factor=1.0)


def _freeze_autoencoder(network: ALTReco) -> None:
    for part in (network.preference_encoder, network.preference_decoder):
        if part is not None:
            part.requires_grad_(False)


def autocast(settings: TrainSettings, device: torch.device) -> torch.autocast:
    """Return the context of the forward passes: bf16 autocast, or none."""
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
