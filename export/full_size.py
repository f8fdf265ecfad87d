"""A model repository for load tests: the committed configs and random weights, which run as fast as trained ones."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from altreco_client import contract
from torch import nn

from export.config import CONFIG_FILE, ensemble_config, vocabulary_size
from export.errors import ExportError
from export.graph.onnx_model import export_onnx
from export.graph.split import split
from export.repository import label_lines, labels_file, model_files
from training.model import ALTReco
from training.presets import preset

VERSION = 1
DAMPING = 0.2
"""Factor on the last normalization of each bottleneck in the random model."""
STATISTICS_BATCHES, STATISTICS_BATCH = 3, 8
VARIANT = "A6+hier"
"""Every part that a served model may have."""


def random_repository(folder: Path, configs: Path, preset_name: str) -> None:
    """Make the repository, and replace an existing one once it is complete. Raises ExportError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
            made = folded(preset_name, configs, Path(work))
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    except OSError as error:
        raise ExportError(str(error)) from error


def random_model(preset_name: str, tags: int) -> ALTReco:
    """Create the preset's model with random weights and N = `tags`, in evaluation mode."""
    torch.manual_seed(0)
    model = ALTReco(preset(f"{preset_name}/{VARIANT}").model, tags)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        for _ in range(STATISTICS_BATCHES):
            model.visual_encoder(torch.randint(0, 256, (STATISTICS_BATCH, *contract.IMAGE.dims), dtype=torch.uint8))
        # Undamped, random weights amplify int8's rounding errors from block to block, which trained weights do not do.
        # The export would then keep layers in float, and the timed model would not be an int8 model.
        for name, weight in model.visual_encoder.named_parameters():
            if name.endswith("layer.2.normalization.weight"):
                weight.mul_(DAMPING)
    return model.eval()


def folded(preset_name: str, configs: Path, folder: Path) -> Path:
    """Make the repository with the released split in `folder`, unless it is there. Raises ExportError."""
    repository = folder / "folded"
    if not repository.exists():
        model = random_model(preset_name, vocabulary_size(configs))
        copy_configs(configs, repository)
        write_models(repository, contract.COMPONENTS, split(model))
    return repository


def copy_configs(configs: Path, repository: Path) -> None:
    """Copy the configs of a repository to a new one."""
    for model in (*contract.COMPONENTS, contract.TAG_RECOMMENDER):
        (repository / model.name / str(VERSION)).mkdir(parents=True)
        shutil.copy(configs / model.name / CONFIG_FILE, repository / model.name)


def write_models(repository: Path, models: Sequence[contract.Model], modules: Mapping[str, nn.Module]) -> None:
    """Export the modules, name the tags `tag-0`, `tag-1` and so on, and pin the version."""
    tags = vocabulary_size(repository)
    labels_file(repository).write_text(label_lines([f"tag-{i}" for i in range(tags)]), encoding="utf-8")
    files = model_files(repository, VERSION)
    for model in models:
        export_onnx(modules[model.name], model, tags, files[model.name], {})
    ensemble = repository / contract.TAG_RECOMMENDER.name / CONFIG_FILE
    ensemble.write_text(ensemble_config(repository, VERSION), encoding="utf-8")
