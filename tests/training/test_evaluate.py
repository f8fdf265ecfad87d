import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from altreco_client import Vocabulary

from tests.tiny import served_settings, tiny_model, tiny_settings
from training.checkpoint import Checkpoint, load_with_data, save_checkpoint
from training.data.histories import build_histories
from training.data.manifest import SPLITS, Manifest, hold_out_as, read_manifest
from training.data.past import past_pictures
from training.data.synthetic import SyntheticSettings, generate
from training.errors import DataError
from training.evaluate import (
    FREQUENT,
    FUSION,
    HISTORIES,
    NEW,
    SHORT,
    WITH,
    WITHOUT,
    encoded_batches,
    evaluate,
    fused,
    main,
)
from training.evaluate import recommend as scores_of
from training.methods.compare import FASTTAG, NEIGHBOURS, OWN, without_training
from training.methods.late_fusion import fuse
from training.methods.task import Task
from training.metrics import tagging_metrics
from training.model import ALTReco

TAGS = 120
PEOPLE = SyntheticSettings(pictures=60, users=4, new_users=3, validation_users=1, tags=TAGS, test_share=0.2, seed=3)
METHODS = {*HISTORIES, *map(fused, HISTORIES), FREQUENT} - {fused(WITHOUT)}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(generate(tmp_path_factory.mktemp("evaluate") / "data", PEOPLE, processes=1, quiet=True))


@pytest.fixture(scope="module")
def model() -> ALTReco:
    return tiny_model(TAGS)


@pytest.fixture(scope="module")
def metrics(model: ALTReco, manifest: Manifest) -> dict[str, dict[str, float]]:
    return {**evaluate(model, manifest, build_histories(manifest), workers=0, quiet=True)}


def without(manifest: Manifest, split: str) -> Manifest:
    """The same data set with the pictures of a split in none that anybody looks at."""
    changed = manifest.split.copy()
    changed[manifest.rows(split)] = len(SPLITS)
    return replace(manifest, split=changed)


def test_known_and_new_users_are_measured_apart(metrics: dict[str, dict[str, float]]) -> None:
    assert set(metrics) == METHODS | {f"{NEW}{method}" for method in METHODS}


@pytest.mark.parametrize("new", [False, True])
def test_each_group_is_measured_on_its_own_pictures(
    model: ALTReco, manifest: Manifest, metrics: dict[str, dict[str, float]], *, new: bool
) -> None:
    histories = build_histories(manifest)
    rows = manifest.rows("test")
    rows = rows[histories.is_new[manifest.users[rows]] == new]
    ((encoding, batch),) = encoded_batches(model, manifest, histories, rows, workers=0)
    full, none = scores_of(model, encoding, batch.counts), scores_of(model, encoding, torch.zeros_like(batch.counts))
    group = NEW if new else ""
    expected = {
        WITH: full,
        WITHOUT: none,
        FUSION: fuse(none, batch.counts, histories.total(), 1.0),
        FREQUENT: histories.total().expand(len(rows), -1),
    }
    for method, scores in expected.items():
        wanted = tagging_metrics(scores, batch.tags, users=batch.user)
        assert metrics[f"{group}{method}"] == pytest.approx(wanted), method


def test_pictures_with_few_tags_can_be_left_out(
    model: ALTReco, manifest: Manifest, metrics: dict[str, dict[str, float]]
) -> None:
    histories, rows = build_histories(manifest), manifest.rows("test")
    limit = int(np.median(manifest.tags.lengths[rows])) + 1
    split = manifest.split.copy()
    split[rows[manifest.tags.lengths[rows] < limit]] = len(SPLITS)
    rest = evaluate(model, replace(manifest, split=split), histories, workers=0, quiet=True)
    assert evaluate(model, manifest, histories, workers=0, quiet=True, min_tags=limit) == rest
    assert rest[WITH] != metrics[WITH]
    with pytest.raises(DataError, match=r"no test picture of .* has 99 tags of the vocabulary: expected a lower limit"):
        evaluate(model, manifest, histories, workers=0, quiet=True, min_tags=99)


def test_what_was_held_out_of_training_is_in_no_history(tmp_path: Path, manifest: Manifest) -> None:
    """As in training, and in everything that reads a checkpoint with its data: evaluation, export, exploration."""
    path, plain = tmp_path / "model.pt", manifest.root / "manifest.parquet"
    known = pl.read_parquet(plain).filter(pl.col("split").is_in(["train", "test"]))
    data = tmp_path / "data"
    data.mkdir()
    known.write_parquet(data / "manifest.parquet")
    (data / "vocabulary.txt").write_bytes((manifest.root / "vocabulary.txt").read_bytes())
    for share, path_kind, held in ((0.0, "none", 0), (0.25, "none", 12), (0.25, "path", 1)):
        settings = replace(served_settings(), validation_share=share, seed=5)
        settings = replace(settings, model=replace(settings.model, history_path=path_kind))
        model = ALTReco(settings.model, TAGS)
        vocabulary = manifest.vocabulary
        save_checkpoint(path, Checkpoint(model=model, settings=settings, vocabulary=vocabulary, metrics={}))
        _, found, histories = load_with_data(path, data)
        validation = found.rows("validation")
        assert len(validation) == held or (path_kind == "path" and len(set(found.users[validation])) == held)
        expected = hold_out_as(read_manifest(data), settings)
        np.testing.assert_array_equal(found.split, expected.split)
        np.testing.assert_array_equal(histories.counts, build_histories(expected).counts)


def test_data_without_new_users_has_no_figures_of_them(
    model: ALTReco, manifest: Manifest, metrics: dict[str, dict[str, float]]
) -> None:
    """Whoever has neither training pictures nor a history, as in older data sets, counts with the known users."""
    known = evaluate(model, without(manifest, "history"), build_histories(without(manifest, "history")), workers=0)
    assert set(known) == METHODS
    assert known[WITH]["precision@5"] != metrics[WITH]["precision@5"], "the new users' pictures are among them"


def test_no_test_pictures(model: ALTReco, manifest: Manifest) -> None:
    untested = without(manifest, "test")
    with pytest.raises(DataError, match="has no test pictures: give some rows of the manifest the split test"):
        evaluate(model, untested, build_histories(untested), workers=0)


def test_test_pictures_without_a_tag(model: ALTReco, manifest: Manifest) -> None:
    none = replace(manifest.tags, values=manifest.tags.values[:0], offsets=np.zeros_like(manifest.tags.offsets))
    histories = build_histories(manifest)
    with pytest.raises(DataError, match="has a tag of the vocabulary: there is nothing to measure"):
        evaluate(model, replace(manifest, tags=none), histories, workers=0)


def test_comparison_methods_measure_known_and_new_users(manifest: Manifest) -> None:
    settings = replace(tiny_settings().model, user_preference=False, generator=False)
    torch.manual_seed(0)
    visual_net = ALTReco(settings, TAGS)
    histories = build_histories(manifest)
    task = Task(visual_net, manifest, histories, tiny_settings(), torch.device("cpu"), workers=0)
    measured = without_training(task)
    methods = {OWN, NEIGHBOURS, FASTTAG, *map(fused, HISTORIES)}
    assert set(measured) == methods | {f"{NEW}{method}" for method in methods}
    alone = evaluate(visual_net, manifest, histories, workers=0, quiet=True)
    assert measured[f"{NEW}{fused(WITHOUT)}"] == alone[f"{NEW}{WITHOUT}"]
    assert {alone[history]["MAP"] for history in HISTORIES} == {alone[WITH]["MAP"]}, "a visual net sees no history"


def test_short_histories_are_nested_and_depend_on_the_picture_alone(manifest: Manifest) -> None:
    past, histories = past_pictures(manifest), build_histories(manifest)
    for row in manifest.rows("test").tolist():
        user = int(manifest.users[row])
        own = past.of(user)
        lengths = (*SHORT.values(), len(own), len(own) + 5)
        some = past.some(row, lengths)
        assert all((shorter <= longer).all() for shorter, longer in pairwise(some))
        assert 1 <= some[0].sum() <= manifest.tags.lengths[own].max()
        np.testing.assert_array_equal(some[-2], histories.tag_counts(user))
        np.testing.assert_array_equal(some[-1], histories.tag_counts(user))
        np.testing.assert_array_equal(some, past.some(row, lengths))


def test_past_pictures_are_those_that_histories_count(manifest: Manifest) -> None:
    past = past_pictures(manifest)
    counted = np.flatnonzero(np.isin(manifest.split, [SPLITS.index("train"), SPLITS.index("history")]))
    np.testing.assert_array_equal(np.sort(past.rows), counted)
    for user in range(len(manifest.user_names)):
        np.testing.assert_array_equal(past.of(user), counted[manifest.users[counted] == user])


def test_a_stranger_without_past_pictures_has_an_empty_history(manifest: Manifest) -> None:
    past = past_pictures(without(manifest, "history"))
    new = next(row for row in manifest.rows("test") if build_histories(manifest).is_new[manifest.users[row]])
    assert not np.any(past.some(int(new), (0, 1, 5)))


def test_command_prints_the_table_and_writes_every_metric(
    manifest: Manifest,
    model: ALTReco,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "tiny.pt"
    vocabulary = Vocabulary(manifest.vocabulary.tags)
    save_checkpoint(path, Checkpoint(model=model, settings=served_settings(), vocabulary=vocabulary, metrics={}))
    options = ["--data", str(manifest.root), "--workers", "0", "--json", str(tmp_path / "all.json")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(path), *options])
    assert main() == 0
    everything = json.loads((tmp_path / "all.json").read_text())
    heads, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(everything) == 2 * len(METHODS)
    for line, (method, values) in zip(lines, everything.items(), strict=True):
        assert line.startswith(method)
        printed = line.removeprefix(method).split()
        assert printed == [f"{values[name]:.3f}" for name in heads.split()]
