import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from tests.end_to_end.printed import NEVER_RUN, ROOT, commands, run
from tests.tiny import tiny_settings
from tests.tools import BIN
from tests.training.members import normalize, together
from tests.training.members import train as train_member
from training.checkpoint import load_checkpoint
from training.data.manifest import hold_out, read_manifest
from training.data.synthetic import SyntheticSettings, generate
from training.distributed import processes
from training.errors import SettingsError
from training.model import ALTReco, Discriminator
from training.options import Options
from training.state import Progress, save_state
from training.train import _fingerprint, train

PYTHONPATH = os.pathsep.join(filter(None, (".", os.environ.get("PYTHONPATH"))))
ADDRESS, SECOND = "10.99.0.1", "10.99.0.2"
"""Addresses of the two machines, and their names."""

# Few and small steps: Adam divides by gradients' sizes, so a last bit more or less in a sum grows from step to step.
A6 = tiny_settings(optimizer="adamw", learning_rate=1e-4, epochs=1, batch_size=20, patience=3, validation_share=0.1)
QUIET = Options(workers=0, quiet=True)
PROCESSES = 3
"""Their parts of 20 pictures are 7, 7 and 6."""
TINY = "--preset ablation/A6 --batch-size 15 --epochs 1 --workers 0 --device cpu --patience 1 --validation-share 0.1"
"""Options that make a documented command short."""

TWO_MACHINES = """
hostname $ADDRESS
ip link set lo up
unshare --net --uts bash -c "hostname $SECOND; exec sleep 300" &
other=$!
trap 'kill $other' EXIT
there="nsenter --target $other --net --uts"
until [ "$($there hostname)" = $SECOND ]; do sleep 0.02; done
ip link add cable type veth peer name end netns $other
ip addr add $ADDRESS/24 dev cable
ip link set cable up
$there ip addr add $SECOND/24 dev end
$there ip link set end up
$there ip link set lo up
GLOO_SOCKET_IFNAME=end $there bash -c "$TRAIN" &
second=$!
GLOO_SOCKET_IFNAME=cable bash -c "$TRAIN"
wait $second
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SyntheticSettings(pictures=120, users=6, tags=200)
    return generate(tmp_path_factory.mktemp("data") / "set", settings, processes=1, quiet=True)


def scalars(log: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
    return {name: [(s.step, s.value) for s in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.slow
def test_processes_with_uneven_parts_train_as_one_does_on_the_same_batches(data: Path, tmp_path: Path) -> None:
    members = together(PROCESSES, train_member, A6, data, tmp_path, Options(workers=0), logs=tmp_path / "logs")
    assert [member.code for member in members] == [0] * PROCESSES, members
    one = train(A6, data, tmp_path / "one" / "tiny.pt", options=QUIET)

    expected, found = scalars(tmp_path / "one" / "tiny.log"), scalars(tmp_path / "0" / "tiny.log")
    ((_, validated),) = expected.pop("validation/precision@5")
    assert set(expected) == {
        f"train/{name}"
        for name in ("personalized", "generalized", "reconstruction", "adversarial", "discriminator", "total")
    }
    assert found.pop("validation/precision@5") == [(4, pytest.approx(validated, abs=0.03))]
    assert set(found) == set(expected)
    for name, [(step, value)] in expected.items():
        assert step == 4
        # Without synchronized batch statistics, "generalized" is 7e-3 off.
        assert found[name] == [(step, pytest.approx(value, rel=1e-3))], name

    weights = load_checkpoint(tmp_path / "0" / "tiny.pt").model.state_dict()
    running = {name for name in weights if "running" in name}
    apart = {name: weights[name] - value for name, value in one.model.state_dict().items()}
    assert max(apart[name].abs().max() for name in running) < 1e-2  # without synchronized batch statistics: 0.1
    trained = torch.cat([apart[name].flatten() for name in set(apart) - running if weights[name].is_floating_point()])
    assert trained.square().mean().sqrt() < 5e-5  # without: 1.4e-4; each of 5 steps is of 1e-4

    assert [member.out for member in members] == [""] * PROCESSES
    assert re.search(r"train: (\d+)/\1 ", members[0].err), members[0].err
    assert [member.err for member in members[1:]] == ["", ""], "the first process alone prints"
    assert not any((tmp_path / str(rank)).exists() for rank in (1, 2)), "the first process alone writes"
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["tiny.curves.png", "tiny.log", "tiny.pt"]


@pytest.mark.slow
def test_batch_norm_of_uneven_parts_is_that_of_the_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(value, 0.5, 1.5)
    # The parts differ, so that their own statistics would not do.
    place = torch.arange(8.0)[:, None, None, None]
    inputs = torch.randn(8, 3, 5, 4) * (0.2 + place) + place
    weights = torch.randn(8, 3, 5, 4)
    given = tmp_path / "given"
    torch.save({"norm": norm.state_dict(), "inputs": inputs, "weights": weights}, given)
    members = together(2, normalize, given, logs=tmp_path / "logs")
    assert [(member.code, member.err) for member in members] == [(0, "")] * 2
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
def test_processes_with_different_states_stop_in_one_line(data: Path, tmp_path: Path) -> None:
    """As on machines that do not share the folder of the checkpoint."""
    one = Progress(step=1, steps_in_all=1)
    state = tmp_path / "0" / "tiny.state"
    manifest = hold_out(read_manifest(data), A6.validation_share, A6.seed)
    network, discriminator = ALTReco(A6.model, 200), Discriminator(200)
    weights = {"network": network.state_dict(), "discriminator": discriminator.state_dict()}
    save_state(state, A6, _fingerprint(manifest, None), one, weights)
    members = together(2, train_member, A6, data, tmp_path, QUIET, logs=tmp_path / "logs")
    assert 1 in [member.code for member in members]
    host = socket.gethostname()
    expected = (
        f"error: process 1 on {host} has another state than process 0 on {host}: expected the same command and data on "
        "all machines, and a folder of the checkpoint that they share\n"
    )
    # The other process is ended as soon as one has failed, maybe before it has said anything.
    assert {member.err for member in members} | {""} == {expected, ""}


def documented(nodes: int, data: Path, out: Path) -> str:
    """The documented command for so many machines, with two processes and the options of a tiny run."""
    lines = [line for line in commands((ROOT / "docs/training.md").read_text()) if "torchrun" in line]
    (line,) = [line for line in lines if ("--nnodes" in line) == (nodes > 1)]
    each = {"8": str(2 // nodes), "...": f"--data {data} --out {out}", "DIR": str(data), "runs/a6.pt": str(out)}
    command = " ".join(each.get(word, word) for word in line.removesuffix(NEVER_RUN).split())
    return f"{command.replace('.venv/bin/', f'{BIN}/').replace('HOST', ADDRESS)} {TINY}"


def check_printed(said: str, out: Path) -> None:
    assert said.count(f"wrote {out}") == 1, "the first process alone prints"
    assert load_checkpoint(out).settings.batch_size == 15


@pytest.mark.slow
def test_the_documented_command_for_one_machine(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a6.pt"
    check_printed(run(documented(1, data, out), PYTHONPATH=PYTHONPATH, OMP_NUM_THREADS=1, GLOO_SOCKET_IFNAME="lo"), out)


@pytest.mark.slow
def test_the_documented_command_for_two_machines(data: Path, tmp_path: Path) -> None:
    """In two network namespaces with a cable between them."""
    isolated = ["unshare", "--map-root-user", "--net", "--uts"]
    probe = subprocess.run([*isolated, "ip", "link"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"this machine cannot make network namespaces: {probe.stderr.strip()}")
    out = tmp_path / "a6.pt"
    done = subprocess.run(
        [*isolated, "bash", "-euo", "pipefail", "-c", TWO_MACHINES],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": PYTHONPATH,
            "OMP_NUM_THREADS": "1",
            "ADDRESS": ADDRESS,
            "SECOND": SECOND,
            "TRAIN": documented(2, data, out),
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_printed(done.stdout, out)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match="needs its own GPU, but there are only 0"), processes("cuda"):
        pass
