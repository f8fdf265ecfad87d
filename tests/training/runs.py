"""Training in processes that a test may kill, forked from one that has imported everything: that takes each seconds."""

import importlib
import multiprocessing
import os
import signal
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

from training.options import Options
from training.settings import TrainSettings

CONTEXT = multiprocessing.get_context("forkserver")


def preload() -> None:
    """Have the processes of CONTEXT find everything imported."""
    CONTEXT.set_forkserver_preload(["training.train", "transformers.models.resnet.modeling_resnet"])


Place = tuple[str, str, int]
"""A module, a function that it calls, and the number of a call."""


def start(
    settings: TrainSettings, data: Path, out: Path, options: Options, *, killed_at: Place | None = None
) -> BaseProcess:
    """Begin; the process kills itself instead of the call `killed_at`."""
    preload()
    process = CONTEXT.Process(target=_train, args=(settings, data, out, options, killed_at))
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    """Wait for it; the exit code."""
    process.join()
    return process.exitcode


def _train(settings: TrainSettings, data: Path, out: Path, options: Options, killed_at: Place | None) -> None:
    import torch  # noqa: PLC0415 - only where it trains

    from training.train import train  # noqa: PLC0415

    torch.set_num_threads(1)
    if killed_at is not None:
        _kill_at(*killed_at)
    train(settings, data, out, options=options)


def _kill_at(module: str, function: str, number: int) -> None:
    place, calls = importlib.import_module(module), count(1)
    called = getattr(place, function)

    def counted(*arguments: object) -> object:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return called(*arguments)

    setattr(place, function, counted)
