import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny import tiny_settings
from training.data.synthetic import SyntheticSettings, generate
from training.settings import to_json

# Adam divides by gradients' sizes, so a last bit more or less in a sum grows from step to step.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
A6 = tiny_settings(epochs=3, batch_size=20)
A3_EARLY_STOPPING = replace(A6, joint=False, autoencoder_epochs=1, epochs=2, patience=1, validation_share=0.1)
BF16 = replace(A6, epochs=1, precision="bf16")
RUNS = {"A6": A6, "A3": A3_EARLY_STOPPING, "bf16": BF16}

TRAIN = """
import json, os, sys
from pathlib import Path
import torch
from training.settings import from_json
from training.train import Options, train
torch.set_num_threads(1)
data, out = map(Path, sys.argv[1:3])
for name, settings in json.loads(sys.argv[3]).items():
    train(from_json(settings), data, out / os.environ["RANK"] / f"{name}.pt", options=Options(workers=0))
"""
BATCH_NORM = """
import sys
import torch
from torch import nn
from training.distributed import processes
given = torch.load(sys.argv[1])
with processes("cpu") as group:
    norm = nn.BatchNorm2d(3)
    norm.load_state_dict(given["norm"])
    module = group.wrap(group.synchronize_batch_norm(nn.Sequential(norm)))
    assert type(module.module[0]) is not nn.BatchNorm2d
    inputs = given["inputs"].chunk(group.count)[group.rank].requires_grad_()
    outputs = module(inputs)
    (outputs * given["weights"].chunk(group.count)[group.rank]).mean().backward()
    found = {"outputs": outputs.detach(), "input gradient": inputs.grad / group.count, **module.module[0].state_dict()}
    found |= {f"{name} gradient": parameter.grad for name, parameter in module.module[0].named_parameters()}
    module.eval()
    torch.save(found | {"evaluated": module(inputs).detach()}, f"{sys.argv[1]}.{group.rank}")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SyntheticSettings(pictures=120, users=6, tags=200)
    return generate(tmp_path_factory.mktemp("data") / "set", settings, processes=1, quiet=True)


def in_two_processes(arguments: Sequence[str], logs: Path) -> tuple[int, list[dict[str, str]]]:
    """What torchrun ended with, and the `stdout` and `stderr` of each process."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "--redirects", "3", "--log-dir", str(logs), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": "."},
    )
    outputs = [
        {name: next(logs.glob(f"*/attempt_0/{rank}/{name}.log")).read_text() for name in ("stdout", "stderr")}
        for rank in range(2)
    ]
    return done.returncode, outputs


def script(folder: Path, text: str) -> str:
    path = folder / "worker.py"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """The folder of each rank's OUT, of all RUNS, and what each printed."""
    folder = tmp_path_factory.mktemp("two")
    settings = json.dumps({name: to_json(run) for name, run in RUNS.items()})
    worker = script(folder, TRAIN)
    code, outputs = in_two_processes([worker, str(data), str(folder / "out"), settings], folder / "logs")
    assert code == 0, outputs
    return folder / "out", outputs


def scalars(log: Path) -> dict[tuple[str, int], float]:
    events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
    return {(name, scalar.step): scalar.value for name in events.Tags()["scalars"] for scalar in events.Scalars(name)}
