import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from tests.tiny import tiny_settings
from training.checkpoint import load_checkpoint
from training.data.synthetic import SyntheticSettings, generate
from training.distributed import processes
from training.errors import SettingsError
from training.settings import to_json
from training.train import Options, train

# Few and small steps: Adam divides by gradients' sizes, so a last bit more or less in a sum grows from step to step.
A6 = tiny_settings(optimizer="adamw", learning_rate=1e-4, epochs=1, batch_size=20)

TRAIN = """
import os, sys
from pathlib import Path
from training.settings import from_json
from training.train import Options, train
out = Path(sys.argv[3]) / os.environ["RANK"] / "tiny.pt"
train(from_json(sys.argv[1]), Path(sys.argv[2]), out, options=Options(workers=0))
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
    inputs = given["inputs"].chunk(group.count)[group.rank].requires_grad_()
    outputs = module(inputs)
    (outputs * given["weights"].chunk(group.count)[group.rank]).mean().backward()
    norm = module.module[0]
    found = {name: value.clone() for name, value in norm.state_dict().items()}
    found |= {"outputs": outputs.detach(), "inputs.grad": inputs.grad / group.count}
    found |= {"weight.grad": norm.weight.grad, "bias.grad": norm.bias.grad}
    found["bf16"] = module(inputs.detach().bfloat16()).detach()
    found["evaluated"] = module.eval()(inputs).detach()
    torch.save(found, f"{sys.argv[1]}.{group.rank}")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SyntheticSettings(pictures=120, users=6, tags=200)
    return generate(tmp_path_factory.mktemp("data") / "set", settings, processes=1, quiet=True)


def in_two_processes(arguments: Sequence[str], logs: Path) -> tuple[int, list[str], list[str]]:
    """What torchrun returned, and what each process wrote to stdout and to stderr."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "--redirects", "3", "--log-dir", str(logs), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": "."},
    )
    out, err = (
        [next(logs.glob(f"*/attempt_0/{rank}/{stream}.log")).read_text() for rank in range(2)]
        for stream in ("stdout", "stderr")
    )
    return done.returncode, out, err


def script(folder: Path, text: str) -> str:
    path = folder / "worker.py"
    path.write_text(text)
    return str(path)


def scalars(log: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
    return {name: [(s.step, s.value) for s in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.slow
def test_two_processes_train_as_one_does_on_the_same_batches(data: Path, tmp_path: Path) -> None:
    worker = [script(tmp_path, TRAIN), to_json(A6), str(data), str(tmp_path)]
    code, out, err = in_two_processes(worker, tmp_path / "logs")
    assert code == 0, err
    one = train(A6, data, tmp_path / "one" / "tiny.pt", options=Options(workers=0, quiet=True))

    expected, found = scalars(tmp_path / "one" / "tiny.log"), scalars(tmp_path / "0" / "tiny.log")
    assert set(expected) == {
        f"train/{name}"
        for name in ("personalized", "generalized", "reconstruction", "adversarial", "discriminator", "total")
    }
    assert set(found) == set(expected)
    for name, [(step, value)] in expected.items():
        assert step == 5
        # Without synchronized batch statistics, "generalized" is 7e-3 off.
        assert found[name] == [(step, pytest.approx(value, rel=1e-3))], name

    weights = load_checkpoint(tmp_path / "0" / "tiny.pt").model.state_dict()
    running = {name for name in weights if "running" in name}
    apart = {name: weights[name] - value for name, value in one.model.state_dict().items()}
    assert max(apart[name].abs().max() for name in running) < 1e-2  # without synchronized batch statistics: 0.1
    trained = torch.cat([apart[name].flatten() for name in set(apart) - running if weights[name].is_floating_point()])
    assert trained.square().mean().sqrt() < 5e-5  # without: 1.4e-4; each of 5 steps is of 1e-4

    assert out == ["", ""]
    assert "train: 100%" in err[0]
    assert err[1] == "", "the first process alone prints"
    assert not (tmp_path / "1").exists(), "the first process alone writes"
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["tiny.curves.png", "tiny.log", "tiny.pt"]


@pytest.mark.slow
def test_batch_norm_of_two_halves_is_that_of_the_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(value, 0.5, 1.5)
    # The halves differ, so that their own statistics would not do.
    place = torch.arange(8.0)[:, None, None, None]
    inputs = torch.randn(8, 3, 5, 4) * (0.2 + place) + place
    weights = torch.randn(8, 3, 5, 4)
    given = tmp_path / "given"
    torch.save({"norm": norm.state_dict(), "inputs": inputs, "weights": weights}, given)
    code, _, err = in_two_processes([script(tmp_path, BATCH_NORM), str(given)], tmp_path / "logs")
    assert code == 0, err
    assert err == ["", ""]
    first, second = (torch.load(f"{given}.{rank}") for rank in range(2))

    def joined(name: str) -> Tensor:
        return torch.cat([first[name], second[name]])

    inputs.requires_grad_()
    outputs = norm(inputs)
    (outputs * weights).mean().backward()
    torch.testing.assert_close(joined("outputs"), outputs.detach())
    torch.testing.assert_close(joined("inputs.grad"), inputs.grad)
    for found in (first, second):
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(found[name], value, msg=name)
        torch.testing.assert_close(found["weight.grad"], norm.weight.grad)
        torch.testing.assert_close(found["bias.grad"], norm.bias.grad)
    bf16 = norm(inputs.detach().bfloat16()).detach()
    torch.testing.assert_close(joined("bf16"), bf16)
    torch.testing.assert_close(joined("evaluated"), norm.eval()(inputs).detach())


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_evenly_is_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(data), "--out", str(tmp_path / "tiny.pt"), "--preset", "small", "--batch-size", "25"]
    code, out, err = in_two_processes(["-m", "training.train", *arguments], tmp_path / "logs")
    assert code == 1
    assert out == ["", ""]
    # torchrun ends the other process as soon as one has failed, maybe before it has said anything.
    assert set(err) | {""} == {"error: a batch of 25 pictures cannot be shared evenly by 2 processes\n", ""}
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match="needs its own GPU, but there are only 0"), processes("cuda"):
        pass
