"""Make a release: export and check the next version of the three models, then pin it in the ensemble."""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
from altreco_client import contract
from torch import nn

from export import gates
from export.calibration import calibration_pictures
from export.config import (
    CONFIG_FILE,
    check_config,
    check_repository,
    check_variant,
    check_vocabulary_size,
    ensemble_config,
)
from export.errors import ExportError, ReleaseError, VocabularyError
from export.gate import Gate
from export.golden import GoldenSet, Recommender, save_golden_set
from export.graph.onnx_files import onnx_recommender
from export.graph.onnx_model import OPSET, export_onnx, make_names_unique
from export.graph.precision import apply_precision
from export.graph.split import split
from export.manifest import Precision, ReleaseManifest, to_json
from export.quality import golden_inputs, precision_at_5, torch_recommender
from export.repository import (
    discard_leftovers,
    golden_file,
    label_lines,
    labels_file,
    locked,
    manifest_file,
    model_files,
    next_version,
    publish,
    sha256,
    staging,
    versions,
)
from training.checkpoint import Checkpoint, data_of, load_checkpoint
from training.data.histories import Histories
from training.data.manifest import MANIFEST_FILE, Manifest

TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "transformers", "altreco")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to export and what to measure on.

    `data` defaults to the data set that the checkpoint was trained on. `quality_pictures` come from its test split.
    `variant` is the one of the configs that the server will use. `again` makes a new release of a checkpoint that is
    pinned already, for configs that have changed since.
    """

    precision: Precision = "fp32"
    data: Path | None = None
    quality_pictures: int = 1000
    variant: str | None = None
    again: bool = False
    quiet: bool = False


DEFAULT = Options()


@dataclass(frozen=True)
class Release:
    """The published release; `new` is False if it existed before."""

    repository: Path
    manifest: ReleaseManifest
    new: bool

    def __str__(self) -> str:
        """Format the result for the terminal."""
        if not self.new:
            number = self.manifest.version
            show = f".venv/bin/python -m export show {number} --repository {self.repository}"
            return (
                f"{self.repository} serves this checkpoint already, as release {number} (`--again` makes another, for "
                f"changed configs); to see its gates: {show}"
            )
        return "\n".join(
            [
                *map(str, self.manifest.gates),
                f"published release {self.manifest.version} ({self.manifest.precision}) in {self.repository}",
            ]
        )


def release(checkpoint_path: Path, repository: Path, options: Options = DEFAULT) -> Release:
    """Publish the checkpoint as the repository's next release, unless it is the current release already.

    Raises ExportError (config, vocabulary, a gate, a repository that is full, read-only or busy) and training's
    CheckpointError and DataError. On an error the repository stays as it was.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    modules = split(checkpoint.model)
    check_vocabulary_size(repository, len(checkpoint.vocabulary))
    check_repository(repository)
    if options.variant:
        check_variant(repository, options.variant, options.precision)
    _check_labels(repository, checkpoint)
    digest = sha256(checkpoint_path)
    with locked(repository):
        _check_contracts(repository)
        current = next((version.manifest for version in versions(repository) if version.state == "current"), None)
        same = current and (current.checkpoint_sha256, current.precision) == (digest, options.precision)
        if current and same and not options.again:
            return Release(repository, current, new=False)
        source = Source(checkpoint, digest, *_data(checkpoint, checkpoint_path, options))
        try:
            discard_leftovers(repository)
            version = next_version(repository)
            with staging(repository) as staged:
                manifest = _stage(source, modules, version, repository, staged, options)
                publish(repository, staged, version)
        except OSError as error:
            raise ExportError(f"cannot write to {repository}: {error}; the last release is still in place") from error
    return Release(repository, manifest, new=True)


@dataclass(frozen=True)
class Source:
    """The checkpoint and the data that a release is made from."""

    checkpoint: Checkpoint
    checkpoint_sha256: str
    data: Manifest
    histories: Histories


def _data(checkpoint: Checkpoint, path: Path, options: Options) -> tuple[Manifest, Histories]:
    """Read the data set to measure on. Raises ExportError, DataError, and CheckpointError for another vocabulary."""
    root = options.data or checkpoint.data
    if root is None:
        raise ExportError("the checkpoint does not say which data it was trained on: name it with --data")
    if not root.exists():
        raise ExportError(f"no data set at {root} for the golden set and the quality gate: name one with --data")
    return data_of(checkpoint, path, root)


def _stage(
    source: Source, modules: dict[str, nn.Module], version: int, repository: Path, staged: Path, options: Options
) -> ReleaseManifest:
    """Make the release in a separate model repository and check it there. Raises GateError and ConfigError."""
    manifest = _draft(source, version, options)
    labels_file(staged).write_text(label_lines(source.checkpoint.vocabulary.tags), encoding="utf-8")
    files = model_files(staged, version)
    _say(options, f"export release {version} in {options.precision}")
    for model in contract.COMPONENTS:
        files[model.name].parent.mkdir()
        export_onnx(modules[model.name], model, manifest.tags, files[model.name], manifest.onnx_metadata())
    kept_in_float = apply_precision(
        files, options.precision, lambda: calibration_pictures(source.data, source.histories)
    )
    for model in contract.COMPONENTS:
        make_names_unique(files[model.name], f"{source.checkpoint_sha256[:12]}-{options.precision}")
        check_config(repository, model.name, files[model.name])

    inputs, onnx = golden_inputs(source.data, source.histories), onnx_recommender(files)
    alone = [onnx(inputs.image[i : i + 1], inputs.counts[i : i + 1]) for i in range(len(inputs.names))]
    golden = GoldenSet(version=version, inputs=inputs, tags=np.concatenate(alone))
    manifest_file(staged, version).parent.mkdir()
    save_golden_set(golden_file(staged, version), golden)
    (staged / contract.TAG_RECOMMENDER.name / CONFIG_FILE).write_text(ensemble_config(repository, version))

    quality, measured = _measure(source, staged, golden, onnx, manifest.quality_pictures, options)
    manifest = replace(
        manifest,
        kept_in_float=kept_in_float,
        precision_at_5=quality,
        gates=measured,
        files={str(path.relative_to(staged)): sha256(path) for path in (*files.values(), golden_file(staged, version))},
    )
    manifest_file(staged, version).write_text(to_json(manifest), encoding="utf-8")
    return manifest


def _measure(
    source: Source, staged: Path, golden: GoldenSet, onnx: Recommender, pictures: int, options: Options
) -> tuple[dict[str, float], tuple[Gate, ...]]:
    """Measure precision@5 of checkpoint and release, and all gates, cheap ones first. Raises GateError."""
    _say(options, f"compare the answers to {len(golden.inputs.names)} golden inputs: PyTorch, ONNX Runtime, Triton")
    model = torch_recommender(source.checkpoint.model)
    pytorch = gates.pytorch_gate(model, golden.inputs, onnx, options.precision)
    served = gates.served_gate(staged, golden, options.precision)
    gates.require([pytorch, served])
    quality = precision_at_5(
        {"checkpoint": model, "release": onnx},
        source.data,
        source.histories,
        pictures=pictures,
        quiet=options.quiet,
    )
    measured = (pytorch, served, gates.quality_gate(quality["checkpoint"], quality["release"], pictures))
    gates.require(measured)
    return quality, measured


def _say(options: Options, step: str) -> None:
    if not options.quiet:
        print(step, flush=True)


def _draft(source: Source, version: int, options: Options) -> ReleaseManifest:
    """Fill in the manifest's fields that are known before the export."""
    settings = source.checkpoint.settings
    return ReleaseManifest(
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        preset=settings.preset,
        checkpoint_sha256=source.checkpoint_sha256,
        vocabulary_sha256=hashlib.sha256(label_lines(source.checkpoint.vocabulary.tags).encode()).hexdigest(),
        data_sha256=sha256(source.data.root / MANIFEST_FILE),
        tags=len(source.checkpoint.vocabulary),
        precision=options.precision,
        opset=OPSET,
        tools={"python": platform.python_version(), **_installed(TOOLS)},
        kept_in_float=(),
        precision_at_5={},
        quality_pictures=min(options.quality_pictures, len(source.data.rows("test"))),
        gates=(),
        files={},
        contract=contract.VERSION,
    )


def _installed(packages: Sequence[str]) -> dict[str, str]:
    """Map those of the packages that are installed to their versions."""
    return {each.name: each.version for each in metadata.distributions() if each.name in packages}


def _check_labels(repository: Path, checkpoint: Checkpoint) -> None:
    """Raise VocabularyError for another vocabulary: Triton's label file is per model, not per version."""
    if any("\n" in tag or not tag for tag in checkpoint.vocabulary.tags):
        raise VocabularyError("a tag is empty or contains a line break: Triton's label file has one tag per line")
    labels = labels_file(repository)
    if labels.exists() and labels.read_text(encoding="utf-8") != label_lines(checkpoint.vocabulary.tags):
        raise VocabularyError(
            f"{labels} holds another vocabulary than the checkpoint's ({len(checkpoint.vocabulary)} tags). "
            "Each vocabulary needs its own repository: make one with `.venv/bin/python -m export init`"
        )


def _check_contracts(repository: Path) -> None:
    """Raise ReleaseError if weights of another version of the contract are in the repository.

    Triton would load them with the present configs, and refuse to serve the model.
    """
    weights = [version for version in versions(repository) if version.state in ("current", "ready")]
    others = [str(each.number) for each in weights if each.manifest and each.manifest.contract != contract.VERSION]
    if others:
        raise ReleaseError(
            f"{repository} has releases of an older contract than {contract.VERSION}: {', '.join(others)}. Releases of "
            "both need their own repositories and servers: make one with `python -m export init DIRECTORY --vocabulary "
            f"{labels_file(repository)}`"
        )
