import json
import re
from dataclasses import replace
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import numpy as np
import pytest
import torch

from tests.training.ablation import OF_METHODS, ROWS, SEEDS, methods, write_data
from training.ablation.__main__ import _parser, _parts, carry_out
from training.ablation.backbones import OTHERS, folder_of
from training.ablation.backbones import other as other_backbone
from training.ablation.parts import FEW, MAIN, POPULATIONS, Part, with_crowd
from training.ablation.rows import (
    BACKBONES,
    BY_CONTEXT,
    FEW_PICTURES,
    MAIN_RUNS,
    METHODS,
    MODELS,
    POPULATION,
    QUESTIONS,
    TABLES,
    VARIANTS,
)
from training.ablation.study import Study
from training.data.histories import build_histories
from training.data.manifest import read_manifest
from training.data.synthetic import SyntheticSettings, generate
from training.errors import SettingsError, TrainingError
from training.evaluate import HISTORIES, NEW, WITHOUT, fused
from training.methods import compare
from training.methods.compare import RUNS
from training.methods.task import Task
from training.model import ALTReco, VisualEncoder
from training.presets import VARIANTS as PRESETS
from training.presets import preset


def test_every_row_has_a_run_that_makes_it() -> None:
    assert set(VARIANTS) <= set(PRESETS)
    asked = [row for question in QUESTIONS for row in (question.row, question.over)]
    assert set(OF_METHODS) == set(RUNS)
    assert set(MAIN_RUNS) == {*VARIANTS, *BACKBONES, *RUNS}
    for row in (*ROWS, *FEW_PICTURES, *POPULATION, *asked, *BY_CONTEXT):
        assert row.run in MAIN_RUNS
        assert {row.method(history) for history in HISTORIES} <= set(methods(row.run))
    # A4 is A6 without history, and needs no training of its own.
    assert set(PRESETS) - set(VARIANTS) == {"A4"}


def test_no_two_rows_of_a_table_are_the_same() -> None:
    for table in (MODELS, FEW_PICTURES, POPULATION, *TABLES.values()):
        assert len({(row.run, row.result, row.fuses) for row in table}) == len({row.label for row in table})
        assert len({row.label for row in table}) == len(table)


def test_a_result_of_other_settings_does_not_count(parts: list[Part]) -> None:
    assert all(part.is_done(SEEDS) for part in parts)
    (study,), runs = parts[0].studies, parts[0].runs
    for other in (replace(study, epochs=3), replace(study, size="small"), replace(study, data="elsewhere")):
        assert not any(other.is_done(run, seed) for run in runs for seed in range(SEEDS))
    assert not study.is_done("A6", SEEDS)


def test_a_result_from_before_an_option_existed_counts(parts: list[Part]) -> None:
    (study,) = parts[0].studies
    path = study.result("A6", 0)
    content = json.loads(path.read_text())
    start = f"{study.data} A6 "
    settings = json.loads(content["settings"].removeprefix(start))
    for name in ("warmup_steps", "max_grad_norm", "accumulate"):
        del settings[name]
    for name in ("mean", "std", "size"):
        del settings["model"]["backbone"][name]
    path.write_text(json.dumps({**content, "settings": f"{start}{json.dumps(settings)}"}))
    assert study.is_done("A6", 0)
    path.write_text(json.dumps({**content, "settings": f"{start}{json.dumps({**settings, 'accumulate': 2})}"}))
    assert not study.is_done("A6", 0)


def test_the_population_study_shares_the_main_runs(parts: list[Part]) -> None:
    of_part = {part.name: part for part in parts}
    assert set(of_part) == {MAIN, FEW, POPULATIONS}
    assert of_part[POPULATIONS].studies[0] == of_part[MAIN].studies[0]
    assert set(of_part[POPULATIONS].runs) <= set(of_part[MAIN].runs)
    assert [study.epochs for study in of_part[POPULATIONS].studies] == [2, 2, 1]


def test_a_smaller_crowd_has_the_same_pictures_of_everybody_else(tmp_path: Path) -> None:
    people = SyntheticSettings(
        pictures=12, users=2, new_users=1, validation_users=1, crowd=3, pool=20, tags=200, test_share=0.2
    )
    whole = generate(tmp_path / "people", people, processes=1, quiet=True)
    none, two = (read_manifest(with_crowd(whole, tmp_path / f"crowd-{n}", n)) for n in (0, 2))
    assert sorted(none.user_names) == ["user000", "user001", "user002", "user003"]
    assert list(two.user_names) == [*none.user_names, "crowd0000", "crowd0001"]
    everything = read_manifest(whole)
    for manifest in (none, two):
        for row in (0, len(manifest.split) - 1):
            assert (manifest.root / manifest.images[row]).read_bytes() == (
                everything.root / everything.images[row]
            ).read_bytes()
        assert build_histories(manifest).is_new.sum() == 2
    np.testing.assert_array_equal(none.split, everything.split[: len(none.split)])


def test_finished_runs_are_used_again(parts: list[Part], tmp_path: Path) -> None:
    results = sorted((tmp_path / "work").rglob("*.json"))
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results}
    ended = getrusage(RUSAGE_CHILDREN)
    carry_out(parts, SEEDS, jobs=2)
    assert getrusage(RUSAGE_CHILDREN) == ended, "a run was started"
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results} == files


def test_a_run_that_fails_is_named_with_its_log_and_leaves_the_others(parts: list[Part], tmp_path: Path) -> None:
    gone = [
        replace(part, studies=tuple(replace(study, data="/nowhere") for study in part.studies)) for part in parts[:1]
    ]
    (study,) = gone[0].studies
    for path in Path(study.work).iterdir():
        path.write_text(path.read_text().replace(parts[0].studies[0].data, study.data))
    study.result("A2", 0).unlink()
    finished = {path.name for path in Path(study.work).iterdir()}
    log = study.result("A2", 0).with_suffix(".txt")
    with pytest.raises(TrainingError, match=f"^run A2, seed 0 failed: see {re.escape(str(log))}$"):
        carry_out(gone, SEEDS, jobs=1)
    assert log.read_text().startswith("error: no vocabulary at /nowhere/vocabulary.txt")
    assert len(log.read_text().splitlines()) == 1
    assert {path.name for path in Path(study.work).iterdir()} == {*finished, log.name}


@pytest.mark.parametrize("name", OTHERS)
def test_another_backbone_is_read_from_beside_the_studys(parts: list[Part], tmp_path: Path, name: str) -> None:
    torch.manual_seed(1)
    made = VisualEncoder(other_backbone(name, preset("ablation/A1").model.backbone))
    made.backbone.save_pretrained(folder_of(str(tmp_path / "backbone"), name))
    study = replace(parts[0].studies[0], backbone=str(tmp_path / "backbone"))
    backbone = study.settings(f"A1@{name}", 0).model.backbone
    assert backbone.weights is not None
    read = VisualEncoder(backbone)
    read.load_pretrained(backbone.weights)
    weights = read.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in made.state_dict().items())
    with torch.inference_mode():
        encoding = read.eval()(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert encoding.shape == (1, read.channels, 7, 7)


@pytest.mark.slow
def test_methods_measure_what_the_report_asks_for(tmp_path: Path) -> None:
    """Each method on a few pictures, with the features of a visual net that was not trained."""
    people = SyntheticSettings(
        pictures=60, users=4, new_users=2, validation_users=2, tags=300, test_share=0.2, context=True
    )
    manifest = read_manifest(generate(tmp_path / "data", people, processes=1, quiet=True))
    settings = preset("ablation/A1", epochs=1)
    network = ALTReco(settings.model, 300)
    task = Task(network, manifest, build_histories(manifest), settings, torch.device("cpu"), workers=0)
    for run, measure in RUNS.items():
        measured = measure(task)
        assert set(methods(run)) <= {*measured, fused(WITHOUT), f"{NEW}{fused(WITHOUT)}"}
        for of_method in measured.values():
            assert 0 <= of_method["precision@5"] <= 1
        if "contagnet" in run:
            assert set(measured[compare.CONTEXT]) >= {f"precision@5, {name}" for name in compare.BY_CONTEXT[2:]}


@pytest.mark.slow
def test_runs_measure_what_the_report_asks_for(tmp_path: Path) -> None:
    """A variant and the methods that use it, really trained, on a few pictures."""
    people = SyntheticSettings(
        pictures=60, users=4, new_users=2, validation_users=2, crowd=2, pool=30, tags=200, test_share=0.2
    )
    data = generate(tmp_path / "data", people, processes=1, quiet=True)
    study = Study(
        size="ablation",
        data=str(data),
        work=str(tmp_path / "work"),
        backbone="",
        epochs=1,
        workers=0,
        device="cpu",
    )
    part = Part(MAIN, (study,), ("A1", METHODS))
    carry_out([part], seeds=1, jobs=2)
    for run in part.runs:
        assert set(methods(run)) <= set(study.metrics(run, 0)) | {fused(WITHOUT), f"{NEW}{fused(WITHOUT)}"}


def test_data_of_ones_own_has_the_main_part_only(tmp_path: Path) -> None:
    write_data(tmp_path)
    given = ["--data", str(tmp_path), "--backbone", ""]
    (part,) = _parts(_parser().parse_args(given))
    assert (part.name, part.studies[0].data) == (MAIN, str(tmp_path))
    assert set(MAIN_RUNS) - set(part.runs) == {*BACKBONES, "contagnet-raw", "contagnet-cyclic", "clare"}
    with pytest.raises(SettingsError, match="--data takes the place of generated data: expected --only main"):
        _parts(_parser().parse_args([*given, "--only", "population"]))
