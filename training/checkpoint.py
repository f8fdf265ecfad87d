"""Checkpoints: weights, settings, vocabulary and metrics in one file, written whole or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from altreco_client import Vocabulary

from training.data.histories import Histories, build_histories
from training.data.manifest import Manifest, hold_out_as, read_manifest
from training.errors import CheckpointError, SettingsError
from training.files import read_weights, write_weights
from training.model import ALTReco
from training.settings import TrainSettings, from_json, to_json

FORMAT = "altreco-checkpoint-2"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model with what export and serving need to know about it."""

    model: ALTReco
    settings: TrainSettings
    vocabulary: Vocabulary
    metrics: Mapping[str, Mapping[str, float]]
    """Method (with history, without history, ...) to metric to value, on the test split."""
    data: Path | None = None
    """The folder of the training data, as it was given; export reads test pictures from it."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file whole or not at all; raises CheckpointError."""
    content = {
        "format": FORMAT,
        "settings": to_json(checkpoint.settings),
        "vocabulary": list(checkpoint.vocabulary.tags),
        "metrics": {name: dict(values) for name, values in checkpoint.metrics.items()},
        "data": checkpoint.data and str(checkpoint.data),
        "weights": checkpoint.model.state_dict(),
    }
    write_weights(path, content)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; the model is in evaluation mode on the CPU. Runs no code from the file.

    A checkpoint from before the history path gives a model without one, and the same answers. Raises CheckpointError
    for a missing, damaged or foreign file.
    """
    content = read_weights(path, FORMAT)
    try:
        settings = from_json(content["settings"])
        vocabulary = Vocabulary(tuple(content["vocabulary"]))
        model = ALTReco(settings.model, len(vocabulary))
        model.load_state_dict(content["weights"])
        metrics = content["metrics"]
        data = content.get("data")
    except (KeyError, ValueError, RuntimeError, SettingsError) as error:
        raise CheckpointError(f"checkpoint {path} does not fit this version of the model: {error}") from error
    return Checkpoint(
        model=model.eval(),
        settings=settings,
        vocabulary=vocabulary,
        metrics=metrics,
        data=None if data is None else Path(data),
    )


def load_with_data(path: Path, data: Path) -> tuple[Checkpoint, Manifest, Histories]:
    """Read a checkpoint and a data set of its vocabulary; raises CheckpointError and DataError."""
    checkpoint = load_checkpoint(path)
    return checkpoint, *data_of(checkpoint, path, data)


def data_of(checkpoint: Checkpoint, path: Path, data: Path) -> tuple[Manifest, Histories]:
    """Read a data set for a checkpoint that was loaded from `path`, and hold out what its training held out.

    Raises CheckpointError for a data set of another vocabulary.
    """
    manifest = read_manifest(data)
    if manifest.vocabulary != checkpoint.vocabulary:
        raise CheckpointError(f"{path} was trained on another vocabulary than {data}: expected the data that it had")
    manifest = hold_out_as(manifest, checkpoint.settings)
    return manifest, build_histories(manifest)
