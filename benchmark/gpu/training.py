"""Training steps per second without reading files, and how fast processes read the pictures."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmark.gpu.environment import Found
from benchmark.gpu.repositories import Place
from benchmark.gpu.settings import LIMIT_S, GpuSettings
from measure.turns import by_turns
from training.data.dataset import Batch, ShuffledEpochs, TrainingPictures, training_batches
from training.data.histories import Histories, build_histories
from training.data.manifest import Manifest, read_manifest
from training.data.synthetic import generate
from training.distributed import Processes, processes
from training.loop import phases
from training.model import ALTReco, Discriminator
from training.presets import preset
from training.settings import TrainSettings
from training.step import autocast, make_players, step

PRECISIONS = ("fp32", "bf16")
ENDLESS = 1_000_000
"""Epochs, and steps, that no measurement reaches."""


def measure_training(settings: GpuSettings, place: Place, found: Found) -> dict[str, Any]:
    """Measure training on one batch again and again, and the reading of pictures. Raises TrainingError."""
    manifest = read_manifest(generate(place.work / f"data-{settings.data.pictures}", settings.data))
    histories = build_histories(manifest)
    of = {
        precision: preset(
            settings.training_preset, precision=precision, batch_size=settings.training_batch, epochs=ENDLESS
        )
        for precision in PRECISIONS
    }
    first = next(_batches(manifest, histories, of["fp32"], 0))
    with processes("cuda" if place.gpu else "cpu") as group:
        batch = first.to(group.device)
        steps = {precision: _stepper(of[precision], histories, batch, group) for precision in PRECISIONS}
        turns = {precision: partial(_rate, run, settings) for precision, run in steps.items()}
        taken = by_turns(turns, settings.load.rounds, title="training", limit_s=LIMIT_S / 2)
        memory = torch.cuda.max_memory_allocated() if place.gpu else None
    return {
        "preset": settings.training_preset,
        "batch": len(first.image),
        "tags": histories.tags,
        "steps_per_s": taken,
        "memory_bytes": memory,
        "read_pictures_per_s": {
            str(workers): _read_rate(manifest, histories, of["fp32"], workers, settings) for workers in settings.workers
        },
    }


def _stepper(settings: TrainSettings, histories: Histories, batch: Batch, group: Processes) -> Callable[[], float]:
    """Return a function that does one alternating step on the batch and returns the loss."""
    torch.manual_seed(settings.seed)
    network = ALTReco(settings.model, histories.tags).to(group.device)
    discriminator = Discriminator(histories.tags).to(group.device)
    (phase,) = phases(settings, network)
    players = make_players(settings, phase.module, phase.loss, discriminator, group, steps=ENDLESS)
    network.train()
    precision = autocast(settings, group.device)
    # The loss as a number waits for the GPU, so that the time is that of the step.
    return lambda: group.mean_of(step(players, batch, phase.loss, precision))["total"]


def _rate(run: Callable[[], float], settings: GpuSettings) -> float:
    """Measure steps per second."""
    _timed(run, settings.load.warmup_s)
    return _timed(run, settings.load.window_s)


def _timed(run: Callable[[], object], seconds: float) -> float:
    started, count = time.monotonic(), 0
    while count == 0 or time.monotonic() - started < seconds:
        run()
        count += 1
    return count / (time.monotonic() - started)


def _read_rate(
    manifest: Manifest, histories: Histories, train: TrainSettings, workers: int, settings: GpuSettings
) -> float:
    """Measure the pictures per second that the processes read, once they have started."""
    batches = _batches(manifest, histories, train, workers)
    size = len(next(batches).image)
    rate = size * _timed(lambda: next(batches), settings.load.window_s)
    batches.close()
    return rate


def _batches(manifest: Manifest, histories: Histories, train: TrainSettings, workers: int) -> Any:
    pictures = TrainingPictures(manifest, histories, train, images=True)
    return training_batches(pictures, ShuffledEpochs(manifest.rows("train"), train), workers)
