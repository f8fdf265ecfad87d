"""Precision@5 of a trained model and of its ONNX files in every precision."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from altreco_client import contract

from benchmark.sections.rows import layer_list
from benchmark.settings import Settings
from export.graph.onnx_files import onnx_recommender
from export.graph.onnx_model import export_onnx
from export.graph.precision import apply_precision
from export.graph.split import split
from export.manifest import PRECISIONS
from export.quality import calibration_pictures, precision_at_5, torch_recommender
from training.checkpoint import load_with_data
from training.data.synthetic import generate
from training.train import train_unless_done


def measure_quality(settings: Settings, checkpoint_path: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Measure on the test pictures, with their users' histories. Raises ExportError, TrainingError."""
    checkpoint, manifest, histories = load_with_data(checkpoint_path, data)
    calibration = calibration_pictures(manifest, histories)
    recommenders, kept = {"checkpoint": torch_recommender(checkpoint.model)}, {}
    exported = folder / "quality"
    exported.mkdir()
    modules = split(checkpoint.model)
    for model in contract.COMPONENTS:
        export_onnx(modules[model.name], model, len(checkpoint.vocabulary), exported / f"{model.name}.onnx", {})
    for precision in PRECISIONS:
        shutil.copytree(exported, folder / f"quality-{precision}")
        files = {model.name: folder / f"quality-{precision}" / f"{model.name}.onnx" for model in contract.COMPONENTS}
        kept[precision] = apply_precision(files, precision, lambda: calibration)
        recommenders[precision] = onnx_recommender(files)
    pictures = settings.quality_pictures
    return {
        "preset": checkpoint.settings.preset,
        "pictures": min(pictures, len(manifest.rows("test"))),
        "kept_in_float": kept["int8"],
        "precision_at_5": precision_at_5(recommenders, manifest, histories, pictures=pictures, quiet=False),
    }


def trained(settings: Settings, work: Path) -> tuple[Path, Path]:
    """The benchmark's own checkpoint and data, made in `work` unless they are there. Raises TrainingError."""
    data, checkpoint = generate(work / "data", settings.data), work / "small.pt"
    train_unless_done(settings.training, data, checkpoint)
    return checkpoint, data


def render_quality(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    values = ", ".join(f"{name} {value:.4f}" for name, value in section["precision_at_5"].items())
    return [
        f"Precision@5 of a model trained on generated pictures (preset `{section['preset']}`), with the users' "
        f"histories, on {section['pictures']:,} test pictures: {values}. int8 keeps "
        f"{layer_list(section['kept_in_float'])} in float.",
        "",
    ]
