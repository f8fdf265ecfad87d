"""A step on parts of a batch, and parameters that no gradient reaches."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_settings, write_tiny_data
from tests.training.backbones import config
from training.data.dataset import Batch, ShuffledEpochs
from training.data.histories import build_histories
from training.data.manifest import read_manifest
from training.distributed import Processes
from training.dry_run import measure
from training.errors import SettingsError
from training.loop import phases
from training.model import ALTReco, Discriminator
from training.options import Options
from training.settings import BackboneSettings, TrainSettings
from training.step import Players, autocast, make_players, step
from training.train import train

N = 60
ALONE = Processes(0, 1, torch.device("cpu"))


def with_backbone(model_type: str) -> TrainSettings:
    settings = tiny_settings(optimizer="adamw", learning_rate=1e-4)
    backbone = BackboneSettings(config=config(model_type, **{"drop_path_rate": 0.0} if model_type != "resnet" else {}))
    return replace(settings, model=replace(settings.model, backbone=backbone))


def batch(size: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (size, 224, 224, 3), dtype=torch.uint8, generator=generator)
    counts, noise = (torch.rand(size, N, generator=generator) for _ in range(2))
    return Batch(image, counts, (counts > 0.9).float(), torch.arange(size), noise)


def players_of(settings: TrainSettings) -> tuple[ALTReco, Players]:
    torch.manual_seed(0)
    network, discriminator = ALTReco(settings.model, N), Discriminator(N)
    (phase,) = phases(settings, network)
    players = make_players(settings, phase.module, phase.loss, discriminator, ALONE, steps=100)
    network.train()
    return network, players


def test_pieces_add_up_to_the_whole_batch() -> None:
    """Without batch normalization, which has the statistics of a piece."""
    settings = with_backbone("convnext")
    losses, weights = [], []
    for pieces in (1, 3):
        network, players = players_of(settings)
        losses.append(step(players, batch(5), settings.loss, autocast(settings, ALONE.device), pieces=pieces))
        weights.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], loss, msg=name)
    for whole, added in zip(*weights, strict=True):
        torch.testing.assert_close(added, whole, rtol=1e-3, atol=1e-6)


def test_uneven_parts_weigh_as_many_as_their_pictures() -> None:
    settings = with_backbone("convnext")
    whole = batch(5)
    parts = [
        Batch(*(part[rank::2] for part in (whole.image, whole.counts, whole.tags, whole.user, whole.noise)))
        for rank in range(2)
    ]
    assert [len(part.tags) for part in parts] == [3, 2]
    gradients = []
    for given, weight in ((whole, 1.0), (parts[0], 2 * 3 / 5), (parts[1], 2 * 2 / 5)):
        network, players = players_of(settings)
        step(players, given, settings.loss, autocast(settings, ALONE.device), weight=weight)
        gradients.append(network.classifier.fc2.weight.grad)
    torch.testing.assert_close((gradients[1] + gradients[2]) / 2, gradients[0], rtol=1e-3, atol=1e-6)


def test_gradients_are_scaled_down_to_the_norm() -> None:
    settings = with_backbone("convnext")
    network, players = players_of(settings)
    step(players, batch(2), settings.loss, autocast(settings, ALONE.device), max_grad_norm=1e-3)
    for module in (network, players.bare_discriminator):
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        assert torch.nn.utils.get_total_norm(gradients) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("model_type", "unused"), [("dinov2", "mask_token"), ("swin", "layernorm"), ("resnet", "")])
def test_every_parameter_that_is_not_frozen_gets_a_gradient(model_type: str, unused: str) -> None:
    """DistributedDataParallel waits for each of them."""
    settings = with_backbone(model_type)
    network, players = players_of(settings)
    step(players, batch(2), settings.loss, autocast(settings, ALONE.device))
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    frozen = {name for name, _ in network.named_parameters()} - trained
    assert all(unused in name for name in frozen)
    assert bool(frozen) == bool(unused)


def test_a_learning_rate_warms_up_to_its_constant_value() -> None:
    settings = replace(with_backbone("resnet"), warmup_steps=3, learning_rate=0.4)
    _, players = players_of(settings)
    rates = []
    for _ in range(5):
        rates.append(players.optimizers[0].param_groups[0]["lr"])
        players.optimizers[0].step()
        players.schedules[0].step()
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    with pytest.raises(SettingsError, match="one_cycle has a rise of its own"):
        replace(settings, schedule="one_cycle")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("step") / "set"
    write_tiny_data(root, N)
    return root


def test_any_number_of_processes_shares_a_batch(data: Path) -> None:
    manifest = read_manifest(data)
    settings = tiny_settings(batch_size=7, epochs=1)
    rows = manifest.rows("train")
    (whole, *_), *parts = (
        list(ShuffledEpochs(rows, settings, process=rank, processes=count))
        for rank, count in ((0, 1), (0, 3), (1, 3), (2, 3))
    )
    assert [len(part[0]) for part in parts] == [3, 2, 2]
    assert sorted(key for part in parts for key in part[0]) == sorted(whole)


def test_a_dry_run_tells_how_fast_pictures_are_needed_and_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.dry_run.MEASURED_S", 0.05)
    manifest = read_manifest(data)
    speed = measure(tiny_settings(batch_size=8), manifest, build_histories(manifest), ALONE, workers=0)
    assert speed.trained > 0
    assert speed.read > 0
    slow, fast = replace(speed, trained=100, read=30, workers=2), replace(speed, trained=10, read=30, workers=2)
    assert str(slow).endswith("--workers 7 would be enough if there are as many cores")
    assert str(fast).endswith("a process trains on 10 pictures/s, its 2 workers read 30")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"batch_size": 4, "accumulate": 5},
            r"cannot be cut into 5 pieces \(processes: 1, accumulate: 5\)",
        ),
        ({"batch_size": 50, "accumulate": 17}, "expected 17 pictures or more, and there are only 16 training pictures"),
        ({"patience": 3}, "patience needs validation pictures: set --validation-share"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(
    data: Path, tmp_path: Path, changes: dict[str, int], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        train(tiny_settings(**changes), data, tmp_path / "tiny.pt", options=Options(workers=0, quiet=True))
