import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny import tiny_settings
from training.checkpoint import load_checkpoint
from training.data.dataset import ShuffledEpochs, TrainingPictures, training_batches
from training.data.histories import build_histories
from training.data.manifest import SPLITS, hold_out_users, read_manifest
from training.data.synthetic import SyntheticSettings, generate
from training.distributed import processes
from training.dry_run import plan
from training.errors import DataError, SettingsError, TrainingError
from training.evaluate import ANOTHER, FREQUENT, FUSION, WITH, WITHOUT, evaluate
from training.evaluate import main as evaluate_main
from training.model import ALTReco, Discriminator, pretrained_backbone
from training.options import Options
from training.presets import VARIANTS
from training.settings import TrainSettings
from training.step import Players, step
from training.train import main, train

TAGS = 200
QUIET = Options(workers=0, quiet=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SyntheticSettings(pictures=160, users=8, tags=TAGS)
    return generate(tmp_path_factory.mktemp("data") / "set", settings, processes=1, quiet=True)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough to train on."""
    settings = SyntheticSettings(pictures=100, users=8, tags=TAGS)
    return generate(tmp_path_factory.mktemp("few") / "set", settings, processes=1, quiet=True)


FIRST, *OTHERS = VARIANTS
SETTINGS = tiny_settings(optimizer="adamw", learning_rate=1e-3, epochs=2, batch_size=20)


def scalars(log: Path, name: str) -> dict[int, float]:
    events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
    return {scalar.step: scalar.value for scalar in events.Scalars(name)}


def test_the_checkpoint_tells_what_training_found(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.pt"
    checkpoint = train(SETTINGS, data, out, options=QUIET)
    loaded = load_checkpoint(out)
    assert loaded.settings == SETTINGS
    assert loaded.metrics == checkpoint.metrics
    assert {WITH, WITHOUT, ANOTHER, FREQUENT, FUSION} <= set(loaded.metrics)

    manifest = read_manifest(data)
    again = evaluate(loaded.model, manifest, build_histories(manifest), workers=0, quiet=True)
    assert again[WITH] == pytest.approx(loaded.metrics[WITH])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.curves.png", "tiny.log", "tiny.pt"]
    logged = scalars(tmp_path / "tiny.log", "train/personalized")
    assert list(logged) == [10, 14], "every tenth step and the last"
    assert logged[14] > 0


@pytest.mark.slow
def test_steps_fit_a_batch_by_its_pictures_and_users(data: Path) -> None:
    manifest = read_manifest(data)
    histories = build_histories(manifest)
    torch.manual_seed(0)
    network, discriminator = ALTReco(SETTINGS.model, TAGS), Discriminator(TAGS)
    network.start_from(
        pictures=len(manifest.rows("train")),
        total=histories.total(),
        users=histories.users_per_tag(),
        histories=histories.sample(),
    )
    optimizers = tuple(torch.optim.AdamW(module.parameters(), lr=1e-3) for module in (network, discriminator))
    schedules = tuple(torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0) for optimizer in optimizers)
    players = Players(network, discriminator, discriminator, optimizers, schedules)
    pictures = TrainingPictures(manifest, histories, SETTINGS, images=True)
    batch = next(training_batches(pictures, ShuffledEpochs(manifest.rows("train"), SETTINGS), workers=0))
    precision = torch.autocast("cpu", enabled=False)
    losses = [step(players, batch, SETTINGS.loss, precision)["personalized"] for _ in range(60)]
    assert losses[-1] < losses[0] / 2, losses


@pytest.mark.parametrize("variant", [FIRST, *(pytest.param(variant, marks=pytest.mark.slow) for variant in OTHERS)])
def test_every_variant_trains(few: Path, tmp_path: Path, variant: str) -> None:
    settings = replace(VARIANTS[variant](SETTINGS), epochs=1, autoencoder_epochs=1, second_stage_steps=20)
    checkpoint = train(settings, few, tmp_path / "tiny.pt", options=QUIET)
    model = load_checkpoint(tmp_path / "tiny.pt").model
    assert 0 <= checkpoint.metrics[WITH]["precision@5"] <= 1
    personalizes = checkpoint.metrics[WITH] != checkpoint.metrics[ANOTHER]
    assert personalizes == model.personalized


@pytest.mark.slow
def test_not_joint_trains_the_auto_encoder_first_and_then_leaves_it_alone(data: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, joint=False, autoencoder_epochs=3, epochs=1)
    trained = train(settings, data, tmp_path / "a3.pt", options=QUIET).model
    longer = train(replace(settings, epochs=2), data, tmp_path / "longer.pt", options=QUIET).model
    assert trained.preference_encoder is not None
    for name, weight in trained.preference_encoder.state_dict().items():
        torch.testing.assert_close(longer.preference_encoder.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
    assert not torch.equal(trained.classifier.fc2.weight, longer.classifier.fc2.weight)
    reconstruction = scalars(tmp_path / "a3.log", "auto-encoder/reconstruction")
    assert list(reconstruction) == [10, 20, 21]
    assert reconstruction[21] < reconstruction[10]
    assert list(scalars(tmp_path / "a3.log", "train/personalized")) == [28], "its steps come after the auto-encoder's"


@pytest.mark.slow
def test_early_stopping_keeps_the_best_epoch(data: Path, tmp_path: Path) -> None:
    # At this learning rate it gets worse and worse, so the best epoch is an early one.
    settings = replace(SETTINGS, epochs=30, patience=2, validation_share=0.2, learning_rate=0.05)
    checkpoint = train(settings, data, tmp_path / "tiny.pt", options=QUIET)
    figures = scalars(tmp_path / "tiny.log", "validation/precision@5")
    values = list(figures.values())
    best = values.index(max(values))
    assert len(values) == best + 1 + 2 < 30

    until_best = replace(settings, epochs=best + 1, patience=30)
    expected = train(until_best, data, tmp_path / "until.pt", options=QUIET)
    assert checkpoint.metrics[WITH]["precision@5"] == pytest.approx(expected.metrics[WITH]["precision@5"], abs=0.02)


@pytest.mark.slow
def test_with_a_history_path_validation_users_are_kept_from_training(data: Path, tmp_path: Path) -> None:
    settings = replace(VARIANTS["A1+path"](SETTINGS), epochs=2, patience=1, validation_share=0.4)
    path = train(settings, data, tmp_path / "tiny.pt", options=QUIET).model.history_path
    assert scalars(tmp_path / "tiny.log", "validation/precision@5")
    held_out = hold_out_users(read_manifest(data), 0.4, settings.seed)
    assert len(np.unique(held_out.users[held_out.rows("validation")])) == 3
    assert path is not None
    assert torch.equal(path.users, build_histories(held_out).users_per_tag())
    assert path.users.max() <= 5 < build_histories(read_manifest(data)).users_per_tag().max()


@pytest.mark.slow
def test_bf16_comes_close_to_fp32(data: Path, tmp_path: Path) -> None:
    logged = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / f"{precision}.pt"
        train(replace(SETTINGS, precision=precision), data, out, options=QUIET)
        logged[precision] = scalars(out.with_suffix(".log"), "train/personalized")[14]
    assert logged["bf16"] != logged["fp32"]
    assert logged["bf16"] == pytest.approx(logged["fp32"], rel=0.05)


def test_pretrained_weights_come_from_a_local_folder(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    backbone = ALTReco(SETTINGS.model, TAGS).visual_encoder.backbone
    backbone.save_pretrained(tmp_path / "backbone")
    settings = pretrained_backbone(str(tmp_path / "backbone"))
    pretrained = replace(SETTINGS, epochs=1, learning_rate=1e-9, model=replace(SETTINGS.model, backbone=settings))
    model = train(pretrained, data, tmp_path / "tiny.pt", options=QUIET).model
    (tmp_path / "backbone").rename(tmp_path / "gone")
    for name, weight in load_checkpoint(tmp_path / "tiny.pt").model.visual_encoder.backbone.named_parameters():
        torch.testing.assert_close(weight, backbone.get_parameter(name), rtol=0, atol=1e-5)
        torch.testing.assert_close(weight, model.visual_encoder.backbone.get_parameter(name), rtol=0, atol=0)


def test_a_backbone_that_cannot_be_had_is_named() -> None:
    with pytest.raises(SettingsError, match="no pretrained backbone '/nowhere/resnet'"):
        pretrained_backbone("/nowhere/resnet")


def test_a_loss_that_is_no_number_stops_and_leaves_the_old_checkpoint(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.pt"
    out.write_bytes(b"the last good one")
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(replace(SETTINGS, learning_rate=1e30), data, out, options=QUIET)
    assert out.read_bytes() == b"the last good one"


def test_a_file_in_the_place_of_the_log_is_named(few: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.log").write_text("the run's own output")
    with pytest.raises(TrainingError, match=r"cannot write TensorBoard's folder: .*mine\.log"):
        train(SETTINGS, few, tmp_path / "mine.pt", options=QUIET)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_gone_is_named(data: Path, tmp_path: Path, workers: int) -> None:
    gone = tmp_path / "set"
    gone.mkdir()
    for name in ("manifest.parquet", "vocabulary.txt"):
        (gone / name).write_bytes((data / name).read_bytes())
    with pytest.raises(DataError, match=r"^picture \d+ of the manifest: cannot read an image from .*jpg"):
        train(SETTINGS, gone, tmp_path / "tiny.pt", options=Options(workers=workers, quiet=True))


def test_a_dry_run_tells_what_training_would_take(data: Path) -> None:
    manifest = read_manifest(data)
    with processes("cpu") as group:
        found = plan(SETTINGS, manifest, build_histories(manifest), group)
        twice = plan(replace(SETTINGS, batch_size=40), manifest, build_histories(manifest), group)
    model = ALTReco(SETTINGS.model, TAGS)
    assert found.parameters["visual_encoder"] == sum(p.numel() for p in model.visual_encoder.parameters())
    assert sum(found.parameters.values()) == sum(
        p.numel() for m in (model, Discriminator(TAGS)) for p in m.parameters()
    )
    assert found.steps == {"train": 14}
    assert found.pictures == {split: len(manifest.rows(split)) for split in SPLITS}
    assert 1.9 < twice.activation_bytes / found.activation_bytes < 2.1
    assert "14  train" in str(found)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (main, ["--data", "/nowhere", "--out", "x.pt"], "error: no vocabulary at /nowhere"),
        (main, ["--data", "/nowhere", "--out", "x.pt", "--preset", "big"], "error: unknown preset 'big'"),
        (evaluate_main, ["none.pt", "--data", "/nowhere"], "error: no checkpoint at none.pt"),
    ],
)
def test_command_line_errors_are_one_line(
    command: Callable[[], int],
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    assert command() == 1
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "patience needs validation pictures: set --validation-share"), (["--validation-share", "1"], "is 1.0")],
)
def test_the_command_line_can_hold_out_validation_pictures(
    data: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ["train.py", "--data", str(data), "--out", "x.pt", "--preset", "small/A6", "--patience", "2"]
    monkeypatch.setattr(sys, "argv", [*fixed, *options])
    assert main() == 1
    assert message in capsys.readouterr().err


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match="generator is True"):
        TrainSettings(loss=replace(SETTINGS.loss, beta=0.0, theta=0.0))
    with pytest.raises(SettingsError, match="warmup_steps is -1"):
        TrainSettings(warmup_steps=-1)
