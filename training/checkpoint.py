"""Checkpoints: weights, settings, vocabulary and metrics in one file, written whole or not at all."""

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from altreco_client import Vocabulary

from training.errors import CheckpointError, SettingsError
from training.model import ALTReco
from training.settings import TrainSettings, from_json, to_json

FORMAT = "altreco-checkpoint-1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model with all that export and serving need to know of it."""

    model: ALTReco
    settings: TrainSettings
    vocabulary: Vocabulary
    metrics: Mapping[str, Mapping[str, float]]
    """Method (with history, without history, most frequent tags) to metric to value, on the test split."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write beside, then rename: a crash leaves the old file, if any, intact."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    content = {
        "format": FORMAT,
        "settings": to_json(checkpoint.settings),
        "vocabulary": list(checkpoint.vocabulary.tags),
        "metrics": {name: dict(values) for name, values in checkpoint.metrics.items()},
        "weights": checkpoint.model.state_dict(),
    }
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write checkpoint {path}: {error}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, its model in evaluation mode on the CPU. Runs no code from the file.

    Raises CheckpointError for a missing, damaged or foreign file.
    """
    content = _read(path)
    try:
        settings = from_json(content["settings"])
        vocabulary = Vocabulary(tuple(content["vocabulary"]))
        model = ALTReco(settings.model, len(vocabulary))
        model.load_state_dict(content["weights"])
        metrics = content["metrics"]
    except (KeyError, ValueError, RuntimeError, SettingsError) as error:
        raise CheckpointError(f"checkpoint {path} does not fit this version of the model: {error}") from error
    return Checkpoint(model=model.eval(), settings=settings, vocabulary=vocabulary, metrics=metrics)


def _read(path: Path) -> dict:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}; `python -m training.train` makes one") from error
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is no readable checkpoint: damaged, or made by something else") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a PyTorch file, but no checkpoint of this project ({FORMAT})")
    return content
