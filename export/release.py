"""A release: the next version of the three models, then the ensemble that pins exactly those.

Everything is written beside its place and renamed; the ensemble's config is last. Until then a server that starts or
reloads serves the old release, whole.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from altreco_client import contract

from export.config import (
    CONFIG_FILE,
    check_config,
    check_vocabulary_size,
    ensemble_config,
    read_config,
    released_version,
)
from export.errors import ExportError, VocabularyError
from export.onnx_model import export_onnx, metadata_of
from export.parity import TOLERANCE, check_parity
from export.split import split
from training.checkpoint import Checkpoint, load_checkpoint

MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Release:
    """What was published; `max_abs_difference` to PyTorch is None for one that was there already."""

    repository: Path
    version: int
    max_abs_difference: float | None

    def __str__(self) -> str:
        """For the terminal."""
        if self.max_abs_difference is None:
            return f"{self.repository} serves this checkpoint already, as release {self.version}"
        return (
            f"max abs difference to PyTorch: {self.max_abs_difference:.1e} (allowed: {TOLERANCE:g})\n"
            f"published release {self.version} in {self.repository}"
        )


def release(checkpoint_path: Path, repository: Path) -> Release:
    """Publish the checkpoint as the repository's next release, unless it is the current one already.

    Raises ExportError (config, vocabulary, parity) and training's CheckpointError; then the repository is as before.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    check_vocabulary_size(repository, len(checkpoint.vocabulary))
    _check_labels(repository, checkpoint)
    digest = hashlib.sha256(checkpoint_path.read_bytes()).hexdigest()
    current = released_version(repository)
    if current is not None and _checkpoint_of(repository, current) == digest:
        return Release(repository, current, None)

    version = _next_version(repository)
    staged = {model.name: repository / model.name / f".{version}.partial" for model in contract.COMPONENTS}
    try:
        difference = _stage(checkpoint, repository, staged, {"checkpoint_sha256": digest, "version": str(version)})
        _publish(checkpoint, repository, staged, version)
    except OSError as error:
        raise ExportError(f"cannot write to {repository}: {error}; the last release is still in place") from error
    finally:
        for folder in staged.values():
            shutil.rmtree(folder, ignore_errors=True)
    return Release(repository, version, difference)


def _stage(checkpoint: Checkpoint, repository: Path, staged: dict[str, Path], metadata: dict[str, str]) -> float:
    """Export into the staging folders and check; returns the max abs difference to PyTorch."""
    modules = split(checkpoint.model)
    files = {name: folder / MODEL_FILE for name, folder in staged.items()}
    for model in contract.COMPONENTS:
        shutil.rmtree(staged[model.name], ignore_errors=True)
        staged[model.name].mkdir()
        export_onnx(modules[model.name], model, len(checkpoint.vocabulary), files[model.name], metadata)
        check_config(repository, model.name, files[model.name])
    return check_parity(checkpoint.model, files, len(checkpoint.vocabulary))


def _publish(checkpoint: Checkpoint, repository: Path, staged: dict[str, Path], version: int) -> None:
    """Rename all into place, the ensemble's config last."""
    _write(_labels(repository), _label_lines(checkpoint))
    for name, folder in staged.items():
        folder.rename(repository / name / str(version))
    ensemble = repository / contract.TAG_RECOMMENDER.name
    (ensemble / str(version)).mkdir(exist_ok=True)
    _write(ensemble / CONFIG_FILE, ensemble_config(repository, version))


def _check_labels(repository: Path, checkpoint: Checkpoint) -> None:
    """Labels are per model in Triton, not per version: another vocabulary must not be published over this one."""
    if any("\n" in tag or not tag for tag in checkpoint.vocabulary.tags):
        raise VocabularyError("a tag is empty or holds a line break: Triton's label file has one tag a line")
    config = read_config(repository, contract.CLASSIFIER.name)
    if contract.LABELS_FILE not in [output.label_filename for output in config.output]:
        raise VocabularyError(
            f"{repository / contract.CLASSIFIER.name / CONFIG_FILE}: output {contract.TAGS.name} label_filename: "
            f"expected {contract.LABELS_FILE!r}, without which no client can name a tag"
        )
    labels = _labels(repository)
    if labels.exists() and labels.read_text(encoding="utf-8") != _label_lines(checkpoint):
        raise VocabularyError(
            f"{labels} holds another vocabulary than the checkpoint's ({len(checkpoint.vocabulary)} tags). "
            "A different vocabulary is a different repository: release into a copy of the configs"
        )


def _next_version(repository: Path) -> int:
    """One above every version that stands in the repository."""
    folders = [path.name for model in contract.COMPONENTS for path in (repository / model.name).iterdir()]
    return max((int(name) for name in folders if name.isdecimal()), default=0) + 1


def _checkpoint_of(repository: Path, version: int) -> str | None:
    """The hash of the checkpoint that a release was made from; None when its weights are not all there."""
    files = [repository / model.name / str(version) / MODEL_FILE for model in contract.COMPONENTS]
    if not all(file.exists() for file in files):
        return None
    return metadata_of(files[0]).get("checkpoint_sha256")


def _labels(repository: Path) -> Path:
    return repository / contract.CLASSIFIER.name / contract.LABELS_FILE


def _label_lines(checkpoint: Checkpoint) -> str:
    return "".join(f"{tag}\n" for tag in checkpoint.vocabulary.tags)


def _write(path: Path, text: str) -> None:
    """Write beside, then rename."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
