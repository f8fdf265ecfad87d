"""Training in one process, or in several that `torchrun` starts and that act as one.

torchrun --nproc-per-node 8 -m training.train --data DIR --out CHECKPOINT
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.errors import SettingsError, TrainingError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """This process's `rank` among `count`, and its device."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that its gradients are averaged over all processes."""
        return DistributedDataParallel(module) if self.count > 1 else module

    def synchronize_batch_norm(self, module: nn.Module) -> nn.Module:
        """Make batch normalization use the statistics of the global batch."""
        if self.count == 1:
            return module
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(module)
        _replace_batch_norm(module)
        return module

    def sums_of(self, values: Sequence[float]) -> list[float]:
        """Add up each value over the processes."""
        if self.count == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return shared.tolist()

    def mean_of(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute each scalar's mean over the processes, with one all-reduce; waits for the device."""
        stacked = torch.stack(list(values.values()))
        if self.count > 1:
            dist.all_reduce(stacked)
        return dict(zip(values, (stacked / self.count).tolist(), strict=True))

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in the order of ranks, in every process."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def together(self, work: Callable[[], Result], facts: Callable[[Result], Mapping[str, str]]) -> Result:
        """Do `work` in every process, and return its result.

        Raises a TrainingError in all processes if it raises one in any of them, or if the `facts` of the result differ:
        text by what it describes.
        """
        if self.count == 1:
            return work()
        result: Result | None = None
        error: str | None = None
        found: Mapping[str, str] = {}
        try:
            result = work()
            found = facts(result)
        except TrainingError as raised:
            error = str(raised)
        told = self.gather((socket.gethostname(), error, found))
        errors = [(rank, host, error) for rank, (host, error, _) in enumerate(told) if error is not None]
        if errors:
            rank, host, error = errors[0]
            everywhere = len(errors) == self.count and len({text for _, _, text in errors}) == 1
            raise TrainingError(error if everywhere else f"process {rank} on {host}: {error}")
        (first, _, expected), *_ = told
        for rank, (host, _, others) in enumerate(told):
            if others != expected:
                differ = " and ".join(name for name in expected if others[name] != expected[name])
                raise SettingsError(
                    f"process {rank} on {host} has another {differ} than process 0 on {first}: expected the same "
                    "command and data on all machines, and a folder of the checkpoint that they share"
                )
        assert result is not None
        return result


@contextmanager
def processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one; raises SettingsError for a missing device."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available() if device == "auto" else device == "cuda"
    if on_gpu and local >= torch.cuda.device_count():
        raise SettingsError(
            f"process {local} of this machine needs its own GPU, but there are only {torch.cuda.device_count()}"
        )
    if on_gpu:
        torch.cuda.set_device(local)
    chosen = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(dist.get_rank(), count, chosen)
    finally:
        dist.destroy_process_group()


def _replace_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, _CpuSyncBatchNorm(child))
        else:
            _replace_batch_norm(child)


class _CpuSyncBatchNorm(nn.BatchNorm2d):
    """nn.SyncBatchNorm for CPU tensors, which the original does not take; for tests and training on CPUs."""

    def __init__(self, original: nn.BatchNorm2d) -> None:
        super().__init__(original.num_features, original.eps, original.momentum)
        self.load_state_dict(original.state_dict())

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        values = input.float()  # statistics of bf16 are computed in fp32, as in nn.BatchNorm2d
        count = torch.tensor(float(values.numel() // values.shape[1]))
        dist.all_reduce(count)  # processes may have parts of different sizes
        mean = _sum_over_processes(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = _sum_over_processes(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """A differentiable sum over processes; torch deprecated its own in favour of a private module."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        """Sum the gradients, because each process's loss depends on every process's value."""
        return _SumOverProcesses.forward(_, gradient)


def _sum_over_processes(value: Tensor) -> Tensor:
    return _SumOverProcesses.apply(value)
