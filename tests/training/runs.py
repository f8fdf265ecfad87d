"""Training in processes that a test may kill, forked from one that has imported everything: that takes each seconds."""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from training.options import Options
from training.settings import TrainSettings

CONTEXT = multiprocessing.get_context("forkserver")


def preload() -> None:
    """Have the processes of CONTEXT find everything imported."""
    CONTEXT.set_forkserver_preload(["training.train", "transformers.models.resnet.modeling_resnet"])


def start(settings: TrainSettings, data: Path, out: Path, options: Options, *, said: Path | None = None) -> BaseProcess:
    """Begin; what the run writes to stderr goes into the file `said`."""
    preload()
    process = CONTEXT.Process(target=_train, args=(settings, data, out, options, said))
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    """Wait for it; the exit code."""
    process.join()
    return process.exitcode


def _train(settings: TrainSettings, data: Path, out: Path, options: Options, said: Path | None) -> None:
    import torch  # noqa: PLC0415 - only where it trains

    from training.train import train  # noqa: PLC0415

    torch.set_num_threads(1)
    if said is not None:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    train(settings, data, out, options=options)
