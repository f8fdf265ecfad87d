"""Processes that act as one, as those of torchrun do, forked from one that has imported everything."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.training.runs import CONTEXT, preload
from training.options import Options
from training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

    from training.distributed import Processes


@dataclass(frozen=True)
class Member:
    """What is left of an ended process."""

    code: int | None
    out: str
    err: str


def together(count: int, work: Callable[..., None], *arguments: object, logs: Path) -> list[Member]:
    """Run `work(rank, *arguments)` in each process; when one fails, the others are ended, too."""
    from tests.servers import own_ports  # noqa: PLC0415 - imports gRPC, which the processes do not need

    preload()
    logs.mkdir()
    port = next(own_ports())
    members = [CONTEXT.Process(target=_run, args=(rank, count, port, work, arguments, logs)) for rank in range(count)]
    for member in members:
        member.start()
    while alive := [member for member in members if member.exitcode is None]:
        wait([member.sentinel for member in alive])
        if any(member.exitcode for member in members):
            for member in alive:
                member.terminate()
                member.join()
    return [
        Member(member.exitcode, *((logs / f"{rank}.{name}").read_text() for name in ("out", "err")))
        for rank, member in enumerate(members)
    ]


def _run(
    rank: int, count: int, port: int, work: Callable[..., None], arguments: tuple[object, ...], logs: Path
) -> None:
    import torch  # noqa: PLC0415 - only where it works

    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        os.dup2(os.open(logs / f"{rank}.{name}", os.O_WRONLY | os.O_CREAT), stream.fileno())
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", **{name: str(value) for name, value in variables.items()}}
    torch.set_num_threads(1)
    work(rank, *arguments)


def train(rank: int, settings: TrainSettings, data: Path, folder: Path, options: Options) -> None:
    """Train into a folder of the process's own; an error is a line on stderr."""
    from training import train as training  # noqa: PLC0415
    from training.errors import TrainingError  # noqa: PLC0415

    try:
        training.train(settings, data, folder / str(rank) / "tiny.pt", options=options)
    except TrainingError as error:
        sys.exit(f"error: {error}")


def normalize(rank: int, given: Path) -> None:
    """Run a batch normalization over 5 and 3 of 8 inputs, forward and back."""
    import torch  # noqa: PLC0415

    from training.distributed import processes  # noqa: PLC0415

    taken = torch.load(given)
    with processes("cpu") as group:
        torch.save(_normalized(rank, group, taken), f"{given}.{rank}")


def _normalized(rank: int, group: Processes, taken: dict[str, Any]) -> dict[str, Tensor]:
    """What the process finds. Its module must not outlive the group: torch may then wait for itself for ever."""
    from torch import nn  # noqa: PLC0415

    norm = nn.BatchNorm2d(3)
    norm.load_state_dict(taken["norm"])
    module = group.wrap(group.synchronize_batch_norm(nn.Sequential(norm)))
    mine = slice(0, 5) if rank == 0 else slice(5, 8)
    inputs = taken["inputs"][mine].clone().requires_grad_()
    outputs = module(inputs)
    (outputs * taken["weights"][mine]).sum().mul(group.count / taken["inputs"].numel()).backward()
    norm = module.module[0]
    found = {name: value.clone() for name, value in norm.state_dict().items()}
    found |= {"outputs": outputs.detach(), "inputs.grad": inputs.grad / group.count}
    found |= {"weight.grad": norm.weight.grad, "bias.grad": norm.bias.grad}
    found["bf16"] = module(inputs.detach().bfloat16()).detach()
    found["evaluated"] = module.eval()(inputs).detach()
    return found
