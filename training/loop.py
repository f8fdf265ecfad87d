"""The loop of a training run: phases, steps, validation, and the state from which a killed run continues."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from measure.progress import progress_bar
from training.data.dataset import Batch, ShuffledEpochs, TrainingPictures, Unreadable, training_batches
from training.data.histories import Histories
from training.data.manifest import Manifest
from training.distributed import Processes
from training.errors import DataError, TrainingError
from training.losses import network_losses
from training.metrics_log import MetricsLog
from training.model import ALTReco, AutoEncoder, Discriminator
from training.settings import LossSettings, TrainSettings
from training.state import Progress, Saved, Saving, save_state
from training.step import Players, autocast, make_players, step

LOG_EVERY = 10
"""Steps between two entries of the metrics log."""

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that stays the same throughout a run.

    `validate` returns, for this process's part of the validation pictures, the sum of the figure for early stopping and
    the number of pictures. `data` is the fingerprint of what the run depends on beside its settings.
    """

    settings: TrainSettings
    manifest: Manifest
    histories: Histories
    network: ALTReco
    discriminator: Discriminator
    processes: Processes
    validate: Callable[[], Sequence[float]]
    log: MetricsLog
    state: Path
    data: str
    saving: Saving
    unreadable: Unreadable
    workers: int
    quiet: bool


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own losses; each step calls `module`."""

    name: str
    module: nn.Module
    loss: LossSettings
    epochs: int
    images: bool


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


def run_phases(run: Run, saved: Saved) -> int:
    """Train from where the state `saved` ends; return the number of steps in all phases.

    The network ends with its best weights.
    """
    progress = saved.progress
    for index, phase in enumerate(phases(run.settings, run.network)):
        if phase.loss.gamma == 0:
            _freeze_autoencoder(run.network)
        if index < progress.phase:
            continue
        progress, best_weights = _run_phase(run, phase, progress, saved)
        progress, saved = Progress(phase=index + 1, steps_in_all=progress.steps_in_all), Saved()
        if best_weights is not None:
            run.network.load_state_dict(best_weights)
    return progress.steps_in_all


def _run_phase(run: Run, phase: Phase, progress: Progress, saved: Saved) -> tuple[Progress, Weights | None]:
    """Do the remaining steps of one phase; with early stopping, also return the weights of the best epoch."""
    group = run.processes
    sampler = ShuffledEpochs(
        run.manifest.rows("train"),
        replace(run.settings, epochs=phase.epochs),
        start=progress.step,
        process=group.rank,
        processes=group.count,
    )
    players = make_players(run.settings, phase.module, phase.loss, run.discriminator, group, sampler.steps)
    best_weights = None
    if saved.weights is not None:
        players.load_state_dict(saved.weights["players"], saved.rate)
        best_weights = saved.weights["best_weights"]
    validates = run.settings.patience > 0 and phase.images
    precision = autocast(run.settings, group.device)
    pictures = TrainingPictures(run.manifest, run.histories, run.settings, images=phase.images)
    phase.module.train()
    batches = progress_bar(
        training_batches(pictures, sampler, run.workers, run.unreadable),
        phase.name,
        total=sampler.steps,
        initial=progress.step,
        unit="step",
        disable=run.quiet or not group.first,
    )
    spoilt = torch.zeros((), device=group.device)  # NaN for good after a loss that is no number
    for batch in batches:
        if validates and progress.stale_epochs >= run.settings.patience:
            break
        _seed(run.settings.seed, progress.steps_in_all, group)
        moved = batch.to(group.device)
        on_device = step(
            players,
            moved,
            phase.loss,
            precision,
            pieces=run.settings.accumulate,
            weight=len(batch.tags) * group.count / sampler.batch_size,
            max_grad_norm=run.settings.max_grad_norm,
        )
        spoilt = spoilt + 0 * on_device["total"]
        progress = replace(progress, step=progress.step + 1, steps_in_all=progress.steps_in_all + 1)
        epoch_ends, last = progress.step % sampler.steps_per_epoch == 0, progress.step == sampler.steps
        asked = run.saving.every is not None and progress.step % run.saving.every == 0
        logs = progress.step % LOG_EVERY == 0 or last
        if not (epoch_ends or asked or logs):
            continue  # without waiting for the device
        losses = _finite(group.mean_of({**on_device, "total": on_device["total"] + spoilt}), progress)
        batches.set_postfix({name: f"{value:.4f}" for name, value in losses.items() if name != "total"})
        if logs:
            found = {"unreadable pictures": float(len(run.unreadable.found))} if run.unreadable.found else {}
            run.log.add(phase.name, {**losses, **found}, progress.steps_in_all)
        if validates and epoch_ends:
            progress, best_weights = _validated(run, progress, best_weights)
        last = last or (validates and progress.stale_epochs >= run.settings.patience)
        if group.first and (asked or last or run.saving.is_due()):
            part = moved.split(run.settings.accumulate)[0]
            if _is_sound(phase, part, run.discriminator, precision):
                _save(run, progress, players, best_weights)
    return progress, best_weights


def _seed(seed: int, step: int, process: Processes) -> None:
    """Draw a step's dropout and drop-path from seed, step and process, so that a run that goes on repeats them."""
    drawn = int(np.random.SeedSequence((seed, step, process.rank)).generate_state(1)[0])
    torch.default_generator.manual_seed(drawn)
    if process.device.type == "cuda":
        torch.cuda.manual_seed(drawn)


def _finite(losses: Mapping[str, float], progress: Progress) -> Mapping[str, float]:
    if not all(map(math.isfinite, losses.values())):
        raise TrainingError(
            f"the loss became {dict(losses)} by step {progress.step}: lower the learning rate or set --max-grad-norm; "
            "the same command with these changes goes on from the last saved state"
        )
    return losses


def _validated(run: Run, progress: Progress, best_weights: Weights | None) -> tuple[Progress, Weights | None]:
    """Evaluate the validation pictures, each process its part, and keep the weights if they are the best so far."""
    hits, pictures = run.processes.sums_of(run.validate())
    if not pictures:
        raise DataError("no validation picture has a tag of the vocabulary: there is nothing to stop early by")
    figure = hits / pictures
    run.network.train()
    run.log.add("validation", {"precision@5": figure}, progress.steps_in_all)
    if figure > progress.best:
        weights = {name: value.detach().clone() for name, value in run.network.state_dict().items()}
        return replace(progress, best=figure, stale_epochs=0), weights
    return replace(progress, stale_epochs=progress.stale_epochs + 1), best_weights


@torch.no_grad()
def _is_sound(phase: Phase, batch: Batch, discriminator: Discriminator, precision: torch.autocast) -> bool:
    """Whether the loss of the new weights is a number; from others, a run could not go on."""
    phase.module.eval()
    with precision:
        prediction = phase.module(batch.image, batch.counts)
        losses = network_losses(prediction, batch.tags, batch.counts, discriminator, phase.loss)
    phase.module.train()
    return bool(losses["total"].isfinite())


def _save(run: Run, progress: Progress, players: Players, best_weights: Weights | None) -> None:
    weights = {
        "network": run.network.state_dict(),
        "discriminator": run.discriminator.state_dict(),
        "players": players.state_dict(),
        "best_weights": best_weights,
    }
    with run.saving.timed():
        run.log.flush()
        save_state(run.state, run.settings, run.data, progress, weights)


def _freeze_autoencoder(network: ALTReco) -> None:
    for part in (network.preference_encoder, network.preference_decoder):
        if part is not None:
            part.requires_grad_(False)
