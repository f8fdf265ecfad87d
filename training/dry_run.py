"""The data, parameters, memory and steps of a run, determined without running it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from altreco_client.contract import IMAGE
from torch import nn

from training.data.dataset import ShuffledEpochs
from training.data.histories import Histories
from training.data.manifest import SPLITS, Manifest
from training.distributed import Processes
from training.loop import autocast, phases
from training.model import ALTReco, Discriminator
from training.second_stage import NAME
from training.settings import TrainSettings

OPTIMIZER_COPIES = 2
"""Adadelta and AdamW both keep two numbers per weight."""


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
    batch_per_process: int
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
            f"optimizer, {_gib(self.activation_bytes)} for the activations of {self.batch_per_process} pictures"
        ]
        return "\n".join(lines + [f"steps       {steps:>12,}  {phase}" for phase, steps in self.steps.items()])


def plan(settings: TrainSettings, manifest: Manifest, histories: Histories, processes: Processes) -> Plan:
    """Plan a run from the data set and a network without weights; raises SettingsError as training would."""
    with torch.device("meta"):
        network, discriminator = ALTReco(settings.model, histories.tags), Discriminator(histories.tags)
    parts: dict[str, nn.Module] = {**dict(network.named_children()), "discriminator": discriminator}
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    sampler = ShuffledEpochs(manifest.rows("train"), settings)
    batch = -(-sampler.batch_size // processes.count)
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
        batch_per_process=batch,
        steps=steps,
    )


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
