"""The data, parameters, memory, steps and speed of a run, determined without running it."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from altreco_client.contract import IMAGE
from torch import nn

from training.data.dataset import Batch, ShuffledEpochs, TrainingPictures, training_batches
from training.data.histories import Histories
from training.data.manifest import SPLITS, Manifest
from training.distributed import Processes
from training.loop import phases
from training.model import ALTReco, Discriminator
from training.second_stage import NAME
from training.settings import TrainSettings
from training.step import autocast, make_players, step

OPTIMIZER_COPIES = 2
"""Adadelta and AdamW both keep two numbers per weight."""

MEASURED_S = 2.0
"""Time for which steps, and the reading of pictures, are measured."""

ENDLESS = 1_000_000
"""Epochs, and steps, that no measurement reaches."""

ON_CPU = 8
"""Pictures of a measured step on a CPU, where their number hardly matters to the time of one."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of a run. `unknown_tags`: share of the tags outside the vocabulary. `parameters`: count of each part.

    Memory is in bytes for one process: weights with gradients and optimizer state, and the activations that the forward
    pass keeps for the backward pass.
    """

    pictures: Mapping[str, int]
    users: int
    tags: int
    unknown_tags: float
    parameters: Mapping[str, int]
    weights_bytes: int
    activation_bytes: int
    pictures_at_once: int
    steps: Mapping[str, int]

    def __str__(self) -> str:
        """Format the plan for a terminal."""
        pictures = ", ".join(f"{count:,} {split}" for split, count in self.pictures.items() if count)
        lines = [f"data        {pictures} pictures; {self.users:,} users; {self.tags:,} tags"]
        lines += [f"            {self.unknown_tags:.1%} of the tags given are outside the vocabulary, and left out"]
        lines += [f"parameters  {count:>12,}  {part}" for part, count in self.parameters.items()]
        lines += [f"            {sum(self.parameters.values()):>12,}  in all"]
        total = self.weights_bytes + self.activation_bytes
        lines += [
            f"memory      about {_gib(total)} per process: {_gib(self.weights_bytes)} for weights, gradients and "
            f"optimizer, {_gib(self.activation_bytes)} for the activations of {self.pictures_at_once} pictures"
        ]
        return "\n".join(lines + [f"steps       {steps:>12,}  {phase}" for phase, steps in self.steps.items()])


def plan(settings: TrainSettings, manifest: Manifest, histories: Histories, processes: Processes) -> Plan:
    """Plan a run from the data set and a network without weights; raises SettingsError as training would."""
    with torch.device("meta"):
        network, discriminator = ALTReco(settings.model, histories.tags), Discriminator(histories.tags)
    parts: dict[str, nn.Module] = {**dict(network.named_children()), "discriminator": discriminator}
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    sampler = ShuffledEpochs(manifest.rows("train"), settings)
    batch = math.ceil(sampler.batch_size / processes.count / settings.accumulate)
    steps = {phase.name: phase.epochs * sampler.steps_per_epoch for phase in phases(settings, network)}
    if settings.model.history_path == "hier":
        steps[NAME] = settings.second_stage_steps
    return Plan(
        pictures={split: len(manifest.rows(split)) for split in SPLITS},
        users=len(manifest.user_names),
        tags=histories.tags,
        unknown_tags=manifest.unknown_tags / max(1, manifest.given_tags),
        parameters=parameters,
        weights_bytes=sum(parameters.values()) * 4 * (2 + OPTIMIZER_COPIES),
        activation_bytes=_activation_bytes(settings, network, histories.tags, batch, processes),
        pictures_at_once=batch,
        steps=steps,
    )


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Pictures a second that one process trains on, and that its `workers` read and decode."""

    trained: float
    read: float
    workers: int

    def __str__(self) -> str:
        """Format the speed for a terminal."""
        workers = f"its {self.workers} workers read" if self.workers else "it reads (--workers 0)"
        said = f"speed       a process trains on {self.trained:,.0f} pictures/s, {workers} {self.read:,.0f}"
        if self.read >= self.trained:
            return said
        enough = math.ceil(max(1, self.workers) * self.trained / self.read)
        return f"{said}: training waits for them, --workers {enough} would be enough if there are as many cores"


def measure(
    settings: TrainSettings, manifest: Manifest, histories: Histories, processes: Processes, *, workers: int
) -> Speed:
    """Measure the speed of this process alone, without the exchange of gradients.

    The steps are those of the last phase on noise. Raises DataError for a picture that cannot be read.
    """
    train = replace(settings, epochs=ENDLESS)
    sampler = ShuffledEpochs(manifest.rows("train"), train, processes=processes.count)
    batches = training_batches(TrainingPictures(manifest, histories, train, images=True), sampler, workers)
    read = len(next(batches).tags)  # which takes the start of the workers
    read_per_s = read * _per_second(lambda: next(batches))
    batches.close()

    alone = replace(processes, rank=0, count=1)
    network = ALTReco(settings.model, histories.tags).to(processes.device)
    discriminator = Discriminator(histories.tags).to(processes.device)
    phase, precision = phases(settings, network)[-1], autocast(settings, processes.device)
    players = make_players(settings, phase.module, phase.loss, discriminator, alone, ENDLESS)
    network.train()
    size = read if processes.device.type == "cuda" else min(read, ON_CPU)
    noise = torch.rand(3, size, histories.tags)
    image = torch.randint(0, 256, (size, *IMAGE.dims), dtype=torch.uint8)
    batch = Batch(image, noise[0], (noise[1] < 0.01).float(), torch.zeros(size), noise[2]).to(processes.device)

    def one_step() -> None:
        step(players, batch, phase.loss, precision, pieces=min(settings.accumulate, size))["total"].item()

    one_step()
    return Speed(trained=size * _per_second(one_step), read=read_per_s, workers=workers)


def _per_second(work: Callable[[], object]) -> float:
    started, times = time.monotonic(), 0
    while times == 0 or time.monotonic() - started < MEASURED_S:
        work()
        times += 1
    return times / (time.monotonic() - started)


def _activation_bytes(settings: TrainSettings, network: ALTReco, tags: int, batch: int, processes: Processes) -> int:
    """Add up the tensors that autograd saves in a forward pass on the meta device."""
    saved: dict[int, torch.Tensor] = {}
    weights = {id(p) for p in network.parameters()}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in weights and id(tensor._base) not in weights:  # a layer may keep its weights transposed
            saved[id(tensor)] = tensor
        return tensor

    image = torch.zeros(batch, *IMAGE.dims, dtype=torch.uint8, device="meta")
    history = torch.zeros(batch, tags, device="meta")
    with (
        torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor),
        autocast(settings, processes.device),
    ):
        network(image, history)
        return sum(tensor.numel() * tensor.element_size() for tensor in saved.values())


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
