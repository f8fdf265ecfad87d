from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny import tiny_settings, write_tiny_data
from training.data.columns import EPOCH, NO_TIME, Context
from training.data.histories import build_histories
from training.data.manifest import Manifest, read_manifest
from training.errors import DataError
from training.methods import contagnet
from training.methods.contagnet import ConTagNet, Contexts, contexts, cyclic, fit, loss, raw, scores
from training.methods.on_pictures import train_on_pictures
from training.methods.task import Task
from training.model import ALTReco, classifier
from training.presets import VARIANTS
from training.settings import TrainSettings

NOWHERE = (float("nan"), float("nan"))
LISBON, TOKYO = (-9.1, 38.7), (139.7, 35.7)


def minutes(*times: datetime) -> np.ndarray:
    return np.array([(time - EPOCH).total_seconds() // 60 for time in times], dtype=np.int32)


def places(*of: tuple[float, float]) -> np.ndarray:
    return np.array(of, dtype=np.float32)


def settings() -> TrainSettings:
    return VARIANTS["A1"](tiny_settings(batch_size=4, epochs=1, validation_share=0.0, optimizer="adamw"))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Pictures in two places at different times; the second has neither."""
    write_tiny_data(tmp_path / "data", 20)
    found = read_manifest(tmp_path / "data")
    minute = minutes(*(datetime(2010, 1 + i % 12, 3 + i, i % 24, 2 * i) for i in range(24)))
    place = places(*(LISBON if i % 2 else TOKYO for i in range(24)))
    minute[1], place[1] = NO_TIME, NOWHERE
    return replace(found, context=Context(minute=minute, place=place))


def task(manifest: Manifest) -> Task:
    network = ALTReco(settings().model, len(manifest.vocabulary))
    return Task(network, manifest, build_histories(manifest), settings(), torch.device("cpu"), workers=0)


def test_raw_context_is_the_originals_six_numbers() -> None:
    at = minutes(datetime(2012, 2, 16, 9, 56), datetime(1999, 12, 31, 23, 59))
    assert raw(at, places(LISBON, TOKYO)).round(1).tolist() == [
        [38.7, -9.1, 596, 16, 2, 3],
        [35.7, 139.7, 1439, 31, 12, 4],
    ]


def test_midnight_and_the_180th_meridian_are_no_jump_in_cyclic_context() -> None:
    at = minutes(datetime(2012, 12, 30, 23, 59), datetime(2012, 12, 31, 0, 1))
    here = places((179.9, 10), (-179.9, 10))
    one, two = cyclic(at, here)
    assert np.linalg.norm(one - two) < 0.02
    one, two = raw(at, here)
    np.testing.assert_allclose((two - one)[[1, 2, 5]], [-359.8, -1438, -6], atol=1e-3)
    year = cyclic(minutes(datetime(2012, 12, 31, 23, 59), datetime(2013, 1, 1, 0, 1)), places(LISBON, LISBON))
    assert np.linalg.norm(year[0] - year[1]) < 0.02


def test_the_scale_is_that_of_the_training_pictures(manifest: Manifest) -> None:
    assert manifest.context is not None
    plain = contexts(manifest, "raw").values
    train, test = manifest.rows("train"), manifest.rows("test")
    known = plain[torch.from_numpy(train[train != 1])][:, :6]
    torch.testing.assert_close(known.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(known.std(0, correction=0), torch.ones(6))
    far = manifest.context.place.copy()
    far[test[0], 1] = 1e6
    other = contexts(replace(manifest, context=replace(manifest.context, place=far)), "raw").values
    torch.testing.assert_close(other[torch.from_numpy(train)], plain[torch.from_numpy(train)])


@pytest.mark.parametrize("encoding", ["raw", "cyclic"])
def test_what_is_unknown_is_a_flag_alone(manifest: Manifest, encoding: str) -> None:
    values = contexts(manifest, encoding).values  # type: ignore[arg-type]
    assert values[1].tolist() == [0] * (values.shape[1] - 1) + [1]
    assert values.isfinite().all()
    assert values[:, -1].sum() == 1
    assert values[0, :-1].any()


def test_permuted_contexts_are_those_of_other_test_pictures(manifest: Manifest) -> None:
    plain, test, train = contexts(manifest, "raw"), manifest.rows("test"), manifest.rows("train")
    permuted = plain.permuted(test)
    assert not torch.equal(permuted[test], plain[test])
    assert sorted(permuted[test].tolist()) == sorted(plain[test].tolist())
    torch.testing.assert_close(permuted[train], plain[train])


def test_data_without_context_is_refused(manifest: Manifest) -> None:
    assert manifest.context is not None
    empty = Context(minute=np.full(24, NO_TIME, np.int32), place=np.full((24, 2), np.nan, np.float32))
    for context in (None, empty):
        with pytest.raises(DataError, match="ConTagNet needs when or where training pictures were taken"):
            contexts(replace(manifest, context=context), "raw")


def test_it_learns_a_tag_that_only_the_time_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture looks the same; its one tag says whether it is of a weekend."""
    for module in (classifier, contagnet):
        monkeypatch.setattr(module, "HIDDEN", 64)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    minute = rng.integers(0, 10 * 365 * 1440, 1200).astype(np.int32)
    numbers = raw(minute, np.full((1200, 2), 10, np.float32))
    weekend = torch.from_numpy(numbers[:, 5] >= 5)
    tags = torch.stack([weekend, ~weekend], 1).float()
    scale = np.where(numbers.std(0) > 0, numbers.std(0), 1)
    known = torch.from_numpy((numbers - numbers.mean(0)) / scale).float()
    context = torch.cat([known, torch.zeros(1200, 1)], dim=1)
    encoding = torch.rand(1, 32, 7, 7).expand(1200, -1, -1, -1)
    network = ConTagNet(ALTReco(settings().model, 2), 7)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(200):
        some = slice(step % 20 * 50, step % 20 * 50 + 50)
        value = loss(network.answers(encoding[some], context[some]), tags[some])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        with_context, without = network.answers(encoding[1000:], context[1000:])
    right = tags[1000:].argmax(1)
    assert (with_context.argmax(1) == right).float().mean() > 0.95
    assert (without.argmax(1) == right).float().mean() < 0.85, "the prior is 5/7"


def test_it_trains_on_pictures_and_answers_by_context(manifest: Manifest) -> None:
    given, test = task(manifest), manifest.rows("test")
    of_rows = contexts(manifest, "cyclic")
    network = fit(given, of_rows)
    own, others = (scores(given, network, each, test) for each in (of_rows, of_rows.permuted(test)))
    assert own.shape == (8, 20)
    assert own.isfinite().all()
    assert not torch.equal(own, others)
    assert torch.equal(own, scores(given, network, Contexts(of_rows.values.clone()), test))


def test_the_loss_gets_the_rows_of_its_pictures(manifest: Manifest) -> None:
    module, seen = nn.Linear(1, 1), []

    def of_batch(batch: object, rows: np.ndarray) -> Tensor:
        for row, tags in zip(rows.tolist(), batch.tags, strict=True):  # type: ignore[attr-defined]
            np.testing.assert_array_equal(manifest.multi_hot(row), tags.numpy())
            seen.append(row)
        return module(torch.ones(1, 1)).sum()

    train_on_pictures(task(manifest), module, of_batch, torch.optim.SGD(module.parameters(), lr=0.1))
    assert sorted(seen) == manifest.rows("train").tolist()
