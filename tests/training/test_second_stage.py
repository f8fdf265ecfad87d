from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import numpy as np
import polars as pl
import pytest
import torch
from altreco_client import Vocabulary
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny import tiny_settings, write_tiny_data
from tests.training.runs import ended, start
from training import second_stage
from training.checkpoint import load_checkpoint
from training.data.histories import Histories, build_histories
from training.data.manifest import MANIFEST_FILE, Manifest, read_manifest
from training.data.ragged import Ragged, Texts
from training.metrics_log import MetricsLog
from training.model import ALTReco
from training.options import Options
from training.second_stage import NAME, fit_population_prior, part_of_history, rows_of_users

N = 60
HIER = replace(tiny_settings().model, history_path="hier")
WITHOUT_U_E = {"user_preference": False, "generator": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("second-stage") / "set"
    write_tiny_data(root, N)
    return root


@pytest.fixture(scope="module")
def read(data: Path) -> tuple[Manifest, Histories]:
    manifest = read_manifest(data)
    return manifest, build_histories(manifest)


def network(manifest: Manifest, histories: Histories, **changes: object) -> ALTReco:
    torch.manual_seed(0)
    model = ALTReco(replace(HIER, **changes), N)
    model.start_from(
        pictures=len(manifest.rows("train")),
        total=histories.total(),
        users=histories.users_per_tag(),
        histories=histories.sample(),
    )
    return model.eval()


def fit(
    model: ALTReco, manifest: Manifest, histories: Histories, log: Path | None = None, *, steps: int, seed: int = 0
) -> None:
    settings = tiny_settings(model=HIER, second_stage_steps=steps, seed=seed)
    with MetricsLog(log, from_step=0) as entries:
        fit_population_prior(model, manifest, histories, settings, entries, first_step=100, workers=0, quiet=True)


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"integration": "addition"}, WITHOUT_U_E])
def test_what_is_kept_of_a_picture_gives_the_logits_of_the_whole_network(
    read: tuple[Manifest, Histories], changes: dict[str, object]
) -> None:
    model = network(*read, **changes)
    image = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8)
    counts = torch.stack([torch.zeros(N), torch.arange(N).float(), torch.ones(N)])
    kept = second_stage.keep(model, model.visual_encoder(image))
    preference_map = None if model.preference_encoder is None else model.classifier.preference_map()
    found = second_stage.logits(model, kept, counts, preference_map) + model.history_path(counts)
    torch.testing.assert_close(found, model(image, counts).personalized, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, WITHOUT_U_E])
def test_only_the_population_prior_changes_and_by_the_seed_alone(
    read: tuple[Manifest, Histories], changes: dict[str, object]
) -> None:
    weights = []
    for seed in (1, 1, 2):
        model = network(*read, **changes)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        fit(model, *read, steps=4, seed=seed)
        weights.append(model.history_path.population.decode.weight)
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {
            f"history_path.population.{name}" for name in ("encode.weight", "encode.bias", "decode.weight")
        }
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(weights[0], weights[2], rtol=1e-2)


def test_the_stage_lowers_the_loss(read: tuple[Manifest, Histories], tmp_path: Path) -> None:
    fit(network(*read, **WITHOUT_U_E), *read, tmp_path, steps=30)
    events = EventAccumulator(str(tmp_path)).Reload()
    logged = events.Scalars(f"{NAME}/personalized")
    assert [scalar.step for scalar in logged] == [110, 120, 130]
    assert logged[-1].value < logged[0].value


def test_a_picture_of_several_users_is_encoded_once(data: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(data / MANIFEST_FILE)
    shared = tmp_path / "set"
    shared.mkdir()
    for path in data.iterdir():
        (shared / path.name).symlink_to(path)
    (shared / MANIFEST_FILE).unlink()
    one = pl.when(pl.col("split") == "train").then(pl.lit("0.jpg")).otherwise("image")
    frame.with_columns(image=one).write_parquet(shared / MANIFEST_FILE)
    manifest = read_manifest(shared)
    histories = build_histories(manifest)
    rng = np.random.default_rng(0)
    pictures = second_stage._encode(network(manifest, histories), manifest, histories, rng, 0, quiet=True)
    assert sorted(pictures.rows) == manifest.rows("train").tolist()
    assert len(pictures.kept) == 1
    assert (pictures.image == 0).all()


def test_histories_are_hidden_whole_or_a_part_and_never_of_the_picture_itself() -> None:
    """One user, whose picture i has the tag i alone."""
    pictures = 40
    manifest = one_user(pictures)
    of_users, rng = rows_of_users(manifest), np.random.default_rng(0)
    drawn = np.array([part_of_history(manifest, of_users, 3, rng) for _ in range(4000)])
    assert (drawn[:, 3] == 0).all()
    assert drawn.max() == 1
    sizes = drawn.sum(1)
    assert np.mean(sizes == 0) == pytest.approx(0.15, abs=0.02)
    shown = sizes[sizes > 0]
    assert 0.3 < np.mean(shown == pictures - 1) < 0.36, "30 %, and those whose part happens to be all"
    parts = shown[shown < pictures - 1]
    assert np.mean(parts <= np.sqrt(pictures)) == pytest.approx(0.5, abs=0.05), "log-uniform"
    assert parts.min() == 1


def one_user(pictures: int) -> Manifest:
    rows = np.arange(pictures)
    return Manifest(
        root=Path(),
        vocabulary=Vocabulary(tuple(map(str, rows))),
        images=Texts(Ragged(np.arange(pictures + 1), np.frombuffer(b"x" * pictures, dtype=np.uint8))),
        users=np.zeros(pictures, dtype=np.int64),
        user_names=["ann"],
        tags=Ragged(np.arange(pictures + 1), rows.astype(np.int32)),
        split=np.zeros(pictures, dtype=np.int8),
    )


@pytest.mark.slow
def test_a_run_that_is_killed_in_the_second_stage_does_it_again(data: Path, tmp_path: Path) -> None:
    settings = tiny_settings(model=HIER, optimizer="adamw", learning_rate=1e-3, epochs=1, second_stage_steps=100)
    unbroken, killed = (tmp_path / name for name in ("unbroken.pt", "killed.pt"))
    quiet = Options(workers=0, quiet=True)
    assert ended(start(settings, data, unbroken, quiet)) == 0

    half = ("training.second_stage", "personalized_loss", 50)
    assert ended(start(settings, data, killed, quiet, killed_at=half)) == -SIGKILL
    assert not killed.exists()
    assert killed.with_suffix(".state").exists()
    assert ended(start(settings, data, killed, quiet)) == 0

    one, other = load_checkpoint(unbroken).model, load_checkpoint(killed).model
    assert one.history_path.population.decode.weight.abs().max() > 0
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weight, rtol=1e-3, atol=1e-4, msg=name)
