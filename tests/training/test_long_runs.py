"""Runs that are stopped, go on with other settings, or meet pictures that cannot be read."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny import tiny_settings
from tests.training.backbones import config
from training import loop
from training.data.dataset import TrainingPictures, Unreadable, evaluation_batches
from training.data.histories import build_histories
from training.data.importers.images import unusable
from training.data.manifest import read_manifest
from training.data.synthetic import SyntheticSettings, generate
from training.errors import CheckpointError, DataError, SettingsError, TrainingError
from training.options import Options
from training.settings import BackboneSettings, TrainSettings
from training.state import MAX_SHARE, Saving
from training.train import train

QUIET = Options(workers=0, quiet=True)
OFTEN = replace(QUIET, save_every=1)
A1 = {"user_preference": False, "generator": False}
TINY = tiny_settings(optimizer="adamw", learning_rate=1e-3, batch_size=10, epochs=1)
SETTINGS = replace(TINY, model=replace(TINY.model, **A1), loss=replace(TINY.loss, beta=0.0, gamma=0.0, theta=0.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SyntheticSettings(pictures=60, users=6, tags=200)
    return generate(tmp_path_factory.mktemp("data") / "set", settings, processes=1, quiet=True)


def train_and_stop(states: int, settings: TrainSettings, data: Path, out: Path) -> None:
    """Stop as Ctrl-C does, once so many states have been saved."""
    saved = 0

    def save_and_stop(*arguments: object) -> None:
        nonlocal saved
        save(*arguments)
        saved += 1
        if saved == states:
            raise KeyboardInterrupt

    save = loop.save_state
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(settings, data, out, options=OFTEN)


def scalars(log: Path) -> dict[str, dict[int, float]]:
    events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
    return {name: {s.step: s.value for s in events.Scalars(name)} for name in events.Tags()["scalars"]}


def notes(log: Path) -> list[str]:
    events = EventAccumulator(str(log)).Reload()
    return [event.tensor_proto.string_val[0].decode() for event in events.Tensors("run/text_summary")]


@pytest.mark.slow
def test_with_drop_path_it_goes_on_as_if_it_had_never_stopped(data: Path, tmp_path: Path) -> None:
    backbone = BackboneSettings(config=config("convnext", drop_path_rate=0.5))
    settings = replace(
        SETTINGS,
        model=replace(SETTINGS.model, backbone=backbone),
        batch_size=4,
        epochs=2,
        patience=5,
        validation_share=0.1,
    )
    whole = train(settings, data, tmp_path / "whole.pt", options=QUIET).model
    train_and_stop(10, settings, data, tmp_path / "again.pt")  # where the log has an entry
    again = train(settings, data, tmp_path / "again.pt", options=OFTEN).model
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=0, atol=1e-5, msg=name)
    expected, found = scalars(tmp_path / "whole.log"), scalars(tmp_path / "again.log")
    assert len(expected["validation/precision@5"]) == 2
    assert {name: [*steps] for name, steps in found.items()} == {name: [*steps] for name, steps in expected.items()}


def test_after_a_loss_that_is_no_number_it_goes_on_with_another_learning_rate(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.pt"
    train_and_stop(2, SETTINGS, data, out)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(replace(SETTINGS, learning_rate=1e30), data, out, options=OFTEN)
    with pytest.raises(CheckpointError, match=r"of other settings \(batch_size 10, now 5\)"):
        train(replace(SETTINGS, batch_size=5), data, out, options=OFTEN)
    train(replace(SETTINGS, learning_rate=1e-4, epochs=2, max_grad_norm=1.0), data, out, options=OFTEN)
    said = notes(tmp_path / "tiny.log")
    assert said[-1].startswith("goes on after step")
    assert "learning_rate 0.0001 (was 0.001), max_grad_norm 1.0 (was 0.0), epochs 2 (was 1)" in said[-1]


@pytest.mark.slow
def test_a_learning_rate_that_changes_takes_effect(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, schedule="one_cycle")
    train_and_stop(2, settings, data, tmp_path / "tiny.pt")
    shutil.copy(tmp_path / "tiny.state", tmp_path / "other.state")
    before = torch.load(tmp_path / "tiny.state")["network"]
    with pytest.raises(CheckpointError, match=r"\(epochs 1, now 2\)"):  # the cycle's length
        train(replace(settings, epochs=2), data, tmp_path / "tiny.pt", options=QUIET)
    usual = train(settings, data, tmp_path / "tiny.pt", options=QUIET).model.state_dict()
    slow = train(replace(settings, learning_rate=1e-6), data, tmp_path / "other.pt", options=QUIET).model.state_dict()
    name = "classifier.fc1.weight"
    assert (slow[name] - before[name]).norm() < 0.01 * (usual[name] - before[name]).norm()


def test_states_take_their_share_of_the_time_and_no_more() -> None:
    saving = Saving(started=time.monotonic() - 100)
    assert saving.is_due()
    saving.seconds = 0.9
    assert not saving.is_due(), f"another one would take it over {MAX_SHARE:.0%}"
    assert not Saving(every=1, started=time.monotonic() - 100).is_due()
    with saving.timed():
        pass
    assert str(saving) == "saved the state 1 times in 0.9 s, 0.9% of the time"
    costly = Saving(every=1, started=time.monotonic() - 10, seconds=2, times=5)
    assert str(costly).endswith("of the time; a larger --save-every costs less")


@pytest.fixture
def broken(data: Path, tmp_path: Path) -> tuple[Path, int, int]:
    """A copy of the data whose sixth training picture and first test picture are cut off, and their rows."""
    folder = Path(shutil.copytree(data, tmp_path / "broken"))
    manifest = read_manifest(folder)
    rows = int(manifest.rows("train")[5]), int(manifest.rows("test")[0])
    for row in rows:
        picture = folder / manifest.images[row]
        picture.write_bytes(picture.read_bytes()[: picture.stat().st_size // 2])
    return folder, *rows


def test_pictures_that_cannot_be_read_do_not_end_a_run(
    broken: tuple[Path, int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, *rows = broken
    options = Options(workers=0, max_bad_pictures=0.03)
    checkpoint = train(SETTINGS, folder, tmp_path / "tiny.pt", options=options)
    assert checkpoint.metrics
    said = capsys.readouterr().err
    for row in rows:
        assert said.count(f"left out: picture {row} of the manifest: cannot read an image from ") == 1
    assert "2 pictures could not be read" in said
    assert max(scalars(tmp_path / "tiny.log")["train/unreadable pictures"].values()) == 1
    with pytest.raises(DataError, match=r"; 2 of 60 pictures cannot be read, more than a share of 0\.001$"):
        train(SETTINGS, folder, tmp_path / "strict.pt", options=QUIET)
    with pytest.raises(DataError, match=r"the end of the JPEG is missing$"):
        train(SETTINGS, folder, tmp_path / "strict.pt", options=replace(QUIET, max_bad_pictures=0))


def test_the_picture_in_place_of_one_that_cannot_be_read_is_always_the_same(broken: tuple[Path, int, int]) -> None:
    folder, row, tested = broken
    manifest = read_manifest(folder)
    histories = build_histories(manifest)
    pictures = TrainingPictures(manifest, histories, SETTINGS, images=True)
    first, again, later = pictures[0, row], pictures[0, row], pictures[1, row]
    assert [*first[-1]] == [row]
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0] != later[0]).any()
    assert any((first[2] == manifest.multi_hot(other)).all() for other in manifest.rows("train") if other != row)

    allowed = Unreadable(share=0.001)
    (batch,) = evaluation_batches(manifest, histories, np.array([tested]), workers=0, unreadable=allowed)
    assert batch.image.unique().tolist() == [128]
    assert [*allowed.found] == [tested]


def test_an_import_that_decodes_finds_a_picture_that_is_cut_off(broken: tuple[Path, int, int]) -> None:
    folder, row, _ = broken
    picture = folder / read_manifest(folder).images[row]
    assert unusable(picture.parent, picture.name) is None, "the header is fine"
    assert unusable(picture.parent, picture.name, decode=True) == "no_image"
    assert unusable(folder, "none.jpg", decode=True) == "missing_image"


@pytest.mark.parametrize("changes", [{"save_every": 0}, {"max_bad_pictures": 1.0}])
def test_options_that_make_no_sense_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes))):
        Options(**changes)
