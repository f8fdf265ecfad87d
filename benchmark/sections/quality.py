"""The answers of a trained model's ONNX files in every precision against the checkpoint's, for known and new users."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from altreco_client import contract

from benchmark.settings import Settings
from export.calibration import calibration_pictures
from export.golden import Recommender
from export.graph.onnx_files import onnx_recommender
from export.graph.onnx_model import export_onnx
from export.graph.precision import apply_precision
from export.graph.split import split
from export.manifest import PRECISIONS
from export.quality import spread, torch_recommender
from measure.markdown import number, table
from measure.progress import progress_bar
from training.checkpoint import load_with_data
from training.data.dataset import evaluation_batches
from training.data.histories import Histories
from training.data.manifest import Manifest
from training.data.synthetic import generate
from training.evaluate import NEW, rank_by_group
from training.metrics import Ranked, merge, summarize
from training.train import train_unless_done

CHECKPOINT = "checkpoint"
USERS = {"": "known users", NEW: "new users"}
BATCH, BEST = 25, 5


def measure_quality(settings: Settings, checkpoint_path: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Measure on the test pictures, with their users' histories. Raises ExportError, TrainingError."""
    checkpoint, manifest, histories = load_with_data(checkpoint_path, data)
    calibration = calibration_pictures(manifest, histories)
    recommenders = {CHECKPOINT: torch_recommender(checkpoint.model)}
    exported = folder / "quality"
    exported.mkdir()
    modules = split(checkpoint.model)
    for model in contract.COMPONENTS:
        export_onnx(modules[model.name], model, len(checkpoint.vocabulary), exported / f"{model.name}.onnx", {})
    for precision in PRECISIONS:
        shutil.copytree(exported, folder / f"quality-{precision}")
        files = {model.name: folder / f"quality-{precision}" / f"{model.name}.onnx" for model in contract.COMPONENTS}
        apply_precision(files, precision, lambda: calibration)
        recommenders[precision] = onnx_recommender(files)
    return {
        "preset": checkpoint.settings.preset,
        "users": compare(recommenders, manifest, histories, settings.quality_pictures),
    }


def compare(
    recommenders: Mapping[str, Recommender], manifest: Manifest, histories: Histories, pictures: int
) -> dict[str, dict[str, Any]]:
    """Compare the models with CHECKPOINT on at most `pictures` test pictures, spread over the split.

    Returns for each group of users the number of `pictures`, and for each model `precision_at_5`, the share of pictures
    with the `same_five` best tags in any order, and the largest difference of a probability. Raises DataError.
    """
    rows = spread(manifest.rows("test"), pictures)
    ranked: dict[str, list[Ranked]] = {}
    same: dict[str, list[np.ndarray]] = {name: [] for name in recommenders}
    apart: dict[str, list[np.ndarray]] = {name: [] for name in recommenders}
    batches = evaluation_batches(manifest, histories, rows, workers=0, batch_size=BATCH)
    for batch in progress_bar(batches, "quality", total=-(-len(rows) // BATCH), unit="batch"):
        answers = {name: ask(batch.image.numpy(), batch.counts.numpy()) for name, ask in recommenders.items()}
        scores = {name: torch.from_numpy(answer) for name, answer in answers.items()}
        for method, of_batch in rank_by_group(scores, batch.tags, batch.user, histories).items():
            ranked.setdefault(method, []).append(of_batch)
        expected = answers[CHECKPOINT]
        for name, answer in answers.items():
            same[name].append((_best(answer) == _best(expected)).all(1))
            apart[name].append(np.abs(answer - expected).max(1))
    new = histories.is_new[manifest.users[rows]]
    return {
        title: {
            "pictures": int(members.sum()),
            "models": {
                name: {
                    "precision_at_5": summarize(merge(ranked[f"{group}{name}"]))["precision@5"],
                    "same_five": float(np.concatenate(same[name])[members].mean()),
                    "max_abs_difference": float(np.concatenate(apart[name])[members].max()),
                }
                for name in recommenders
            },
        }
        for (group, title), members in zip(USERS.items(), (~new, new), strict=True)
        if members.any()
    }


def _best(scores: np.ndarray) -> np.ndarray:
    """Find the BEST best tags of each picture: indices [pictures, BEST], sorted; equal scores rank by index."""
    return np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :BEST], axis=1)


def trained(settings: Settings, work: Path) -> tuple[Path, Path]:
    """Return the benchmark's own checkpoint and data, made in `work` if missing. Raises TrainingError."""
    data, checkpoint = generate(work / "data", settings.data), work / "small.pt"
    train_unless_done(settings.training, data, checkpoint)
    return checkpoint, data


def render_quality(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    users = section["users"]
    heads = ["", *(f"precision@5, {title}" for title in users), *(f"same five best tags, {title}" for title in users)]
    lines = []
    for name in next(iter(users.values()))["models"]:
        rows = [of["models"][name] for of in users.values()]
        same = [f"{row['same_five']:.1%}" for row in rows]
        largest = number(max(row["max_abs_difference"] for row in rows))
        compared = [*same, largest] if name != CHECKPOINT else [""] * (len(rows) + 1)
        lines.append([name, *(f"{row['precision_at_5']:.4f}" for row in rows), *compared])
    pictures = " and ".join(f"{of['pictures']:,} of {title}" for title, of in users.items())
    return [
        f"A model trained on generated pictures (preset `{section['preset']}`), on test pictures: {pictures}. The "
        "columns after precision@5 compare with the checkpoint, whatever the order of the five tags.",
        "",
        *table([*heads, "largest difference of a probability"], lines),
        "",
        "A CPU rounds to fp16 only between layers: a GPU's answers may differ a little more.",
        "",
    ]
