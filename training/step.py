"""The alternating step of training: the network and its adversary, their optimizers and their schedules."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from altreco_client.contract import IMAGE
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LinearLR, LRScheduler, OneCycleLR

from training.data.dataset import Batch
from training.distributed import Processes
from training.losses import discriminator_loss, judged_tags, network_losses
from training.model import Discriminator
from training.settings import LossSettings, TrainSettings


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

    def load_state_dict(self, state: Mapping[str, Any], rate: float = 1.0) -> None:
        """Load what `state_dict` returned; `rate` multiplies its learning rates."""
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
            for group in optimizer.param_groups:
                for name in ("lr", "initial_lr", "max_lr", "min_lr"):  # the last two are OneCycleLR's
                    if name in group:
                        group[name] *= rate
        for schedule, values in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict({**values, "base_lrs": [base * rate for base in values["base_lrs"]]})


def make_players(
    settings: TrainSettings,
    module: nn.Module,
    loss: LossSettings,
    discriminator: Discriminator,
    processes: Processes,
    steps: int,
) -> Players:
    """Return the players of a phase of so many steps, with new optimizers and schedules.

    Parameters of `module` that get no gradient are frozen: DistributedDataParallel waits for all that are not.
    """
    _freeze_unused(module, loss, discriminator, processes.device)
    optimizers = _optimizer(module, settings), _optimizer(discriminator, settings)
    return Players(
        network=processes.wrap(module),
        discriminator=processes.wrap(discriminator) if loss.theta else discriminator,
        bare_discriminator=discriminator,
        optimizers=optimizers,
        schedules=(_schedule(optimizers[0], settings, steps), _schedule(optimizers[1], settings, steps)),
    )


def step(
    players: Players,
    batch: Batch,
    loss: LossSettings,
    precision: torch.autocast,
    *,
    pieces: int = 1,
    weight: float = 1.0,
    max_grad_norm: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Do one alternating step (paper, section IV-B): the network against a fixed D, then D against its output.

    `pieces`: how many parts of the batch go through the network one after another. `weight` multiplies the losses: this
    process's share of the batch's pictures, times the number of processes, as gradients are averaged over processes.
    Returns the scalar losses on the device, without waiting for it.
    """
    if loss.theta:
        players.bare_discriminator.requires_grad_(False)
    players.optimizers[0].zero_grad()
    losses: dict[str, torch.Tensor] = {}
    fakes = []
    parts = batch.split(pieces)
    for number, part in enumerate(parts, start=1):
        share = weight * len(part.tags) / len(batch.tags)
        with _synchronized(players.network, only_if=number == len(parts)):
            with precision:
                prediction = players.network(part.image, part.counts)
                of_part = network_losses(prediction, part.tags, part.counts, players.bare_discriminator, loss)
            (share * of_part["total"]).backward()
        for name, value in of_part.items():
            losses[name] = losses.get(name, 0) + share * value.detach()
        if loss.theta:
            fakes.append(judged_tags(prediction, loss).detach())
    _advance(players, 0, max_grad_norm)

    if loss.theta:
        players.bare_discriminator.requires_grad_(True)
        players.optimizers[1].zero_grad()
        with precision:
            judged = weight * discriminator_loss(torch.cat(fakes), batch.tags, batch.noise, players.discriminator)
        judged.backward()
        losses["discriminator"] = judged.detach()
        _advance(players, 1, max_grad_norm)
    return losses


def autocast(settings: TrainSettings, device: torch.device) -> torch.autocast:
    """Return the context of the forward passes: bf16 autocast, or none."""
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _synchronized(module: nn.Module, *, only_if: bool) -> AbstractContextManager[object]:
    """Average the gradients over the processes in this backward pass, or only add them up."""
    return nullcontext() if only_if or not isinstance(module, DistributedDataParallel) else module.no_sync()


def _advance(players: Players, player: int, max_grad_norm: float) -> None:
    optimizer = players.optimizers[player]
    if max_grad_norm:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    players.schedules[player].step()


def _freeze_unused(module: nn.Module, loss: LossSettings, discriminator: Discriminator, device: torch.device) -> None:
    """Freeze the parameters that one picture's loss does not reach, as DINOv2's token for masked patches."""
    tags = next(discriminator.parameters()).shape[1]
    image, nothing = torch.zeros(1, *IMAGE.dims, dtype=torch.uint8, device=device), torch.zeros(1, tags, device=device)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.eval()  # neither batch statistics nor random numbers are used up
    total = network_losses(module(image, nothing), nothing, nothing, discriminator, loss)["total"]
    gradients = torch.autograd.grad(total, trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def _optimizer(module: nn.Module, settings: TrainSettings) -> Optimizer:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if settings.optimizer == "adadelta":
        return torch.optim.Adadelta(trained, lr=settings.learning_rate)
    return torch.optim.AdamW(trained, lr=settings.learning_rate)


def _schedule(optimizer: Optimizer, settings: TrainSettings, steps: int) -> LRScheduler:
    if settings.schedule == "one_cycle":
        return OneCycleLR(optimizer, max_lr=settings.learning_rate, total_steps=steps)
    if settings.warmup_steps:
        return LinearLR(optimizer, start_factor=1 / (settings.warmup_steps + 1), total_iters=settings.warmup_steps)
    return ConstantLR(optimizer, factor=1.0)
