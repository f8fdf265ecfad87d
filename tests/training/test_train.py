import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_settings
from training.checkpoint import load_checkpoint
from training.data.dataset import training_batches
from training.data.histories import build_histories
from training.data.manifest import read_manifest
from training.data.synthetic import SyntheticSettings, generate
from training.errors import TrainingError
from training.evaluate import evaluate
from training.model import ALTReco, Discriminator
from training.train import Players, step, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SyntheticSettings(pictures=160, users=8, tags=200)
    return generate(tmp_path_factory.mktemp("data") / "set", settings, processes=1, quiet=True)


SETTINGS = tiny_settings(optimizer="adamw", learning_rate=1e-3, epochs=2, batch_size=20)


def test_the_checkpoint_tells_what_training_found(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.pt"
    checkpoint = train(SETTINGS, data, out, workers=0, quiet=True)
    loaded = load_checkpoint(out)
    assert loaded.settings == SETTINGS
    assert loaded.metrics == checkpoint.metrics
    assert {"with history", "without history", "most frequent tags"} == set(loaded.metrics)

    manifest = read_manifest(data)
    again = evaluate(loaded.model, manifest, build_histories(manifest), workers=0, quiet=True)
    assert again["with history"] == pytest.approx(loaded.metrics["with history"])


def test_steps_fit_a_batch_by_its_pictures_and_users(data: Path) -> None:
    manifest = read_manifest(data)
    histories = build_histories(manifest)
    torch.manual_seed(0)
    network, discriminator = ALTReco(SETTINGS.model, 200), Discriminator(200)
    network.start_from(histories.total() / len(manifest.rows("train")), histories.sample())
    optimizers = [torch.optim.AdamW(module.parameters(), lr=1e-3) for module in (network, discriminator)]
    players = Players(network, discriminator, *optimizers)
    batch = next(iter(training_batches(manifest, histories, SETTINGS, workers=0)))
    losses = [step(players, batch, SETTINGS)["personalized"] for _ in range(60)]
    assert losses[-1] < losses[0] / 2, losses


def test_same_seed_same_weights(data: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=1)
    first, second = (train(settings, data, tmp_path / f"{i}.pt", workers=0, quiet=True) for i in range(2))
    for name, weight in first.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], weight, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_number_stops_and_leaves_the_old_checkpoint(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.pt"
    out.write_bytes(b"the last good one")
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(replace(SETTINGS, learning_rate=1e30), data, out, workers=0, quiet=True)
    assert out.read_bytes() == b"the last good one"


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("training.train", ["--data", "/nowhere", "--out", "x.pt"], "error: no vocabulary at /nowhere"),
        ("training.train", ["--data", "/nowhere", "--out", "x.pt", "--preset", "big"], "error: unknown preset 'big'"),
        ("training.evaluate", ["none.pt", "--data", "/nowhere"], "error: no checkpoint at none.pt"),
    ],
)
def test_command_line_errors_are_one_line(module: str, arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
