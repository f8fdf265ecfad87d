"""`release.json`: a release's contents, its origin and the results of its gates.

What is read is not trusted: types, names and numbers are checked, so that no path or tolerance is taken from the file.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from altreco_client import contract
from altreco_client.text import printable

from export.errors import ExportError, ReleaseError
from export.gate import Gate
from export.golden import GOLDEN_FILE
from export.untrusted import read_file

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

FORMAT = "altreco-release-1"
MANIFEST_FILE, MODEL_FILE = "release.json", "model.onnx"
MOST_BYTES, MOST_CHARACTERS = 2**20, 5_000
DIGEST = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ReleaseManifest:
    """The record of a release. Hashes are SHA-256 in hexadecimal."""

    version: int
    created: str
    """UTC, ISO 8601."""
    preset: str
    """The preset that the model was trained with."""
    checkpoint_sha256: str
    vocabulary_sha256: str
    """Hash of the label file."""
    data_sha256: str
    """Hash of the manifest of the data set used for golden set, calibration and quality."""
    tags: int
    """N, the size of the vocabulary."""
    precision: Precision
    kept_in_float: tuple[str, ...]
    """Layers of the visual encoder that stay in float because int8 would hurt there."""
    opset: int
    tools: Mapping[str, str]
    """Version of each package that took part in the export."""
    precision_at_5: Mapping[str, float]
    """Precision@5 of `checkpoint` and `release` on the same test pictures."""
    quality_pictures: int
    gates: tuple[Gate, ...]
    files: Mapping[str, str]
    """Hash of each model file and the golden set, by the path in the repository."""
    contract: int = 1
    """Version of the serving contract. Manifests of version 1 do not say it."""

    def gate(self, name: str) -> Gate:
        """The gate of that name. Raises ReleaseError unless there is exactly one."""
        found = [gate for gate in self.gates if gate.name == name]
        if len(found) != 1:
            raise ReleaseError(f"release {self.version}: expected one gate {name!r}, its manifest has {len(found)}")
        return found[0]

    def onnx_metadata(self) -> dict[str, str]:
        """The metadata of the ONNX files: all that is known before they are measured and hashed."""
        names = (
            "version",
            "created",
            "preset",
            "checkpoint_sha256",
            "vocabulary_sha256",
            "precision",
            "opset",
            "contract",
        )
        return {name: str(getattr(self, name)) for name in names} | {"tools": json.dumps(dict(self.tools))}


def release_files(version: int) -> set[str]:
    """The files that a manifest names: the weights of each component and the golden set, from the repository's root."""
    weights = {f"{model.name}/{version}/{MODEL_FILE}" for model in contract.COMPONENTS}
    return {*weights, f"{contract.TAG_RECOMMENDER.name}/{version}/{GOLDEN_FILE}"}


def check_contract(manifest: ReleaseManifest) -> None:
    """Raise ReleaseError for a release of another version of the contract: its models do not fit the configs."""
    if manifest.contract != contract.VERSION:
        raise ReleaseError(
            f"release {manifest.version} speaks contract {manifest.contract}, expected contract {contract.VERSION}: "
            "release its checkpoint again, or use the revision of this project that made it"
        )


def to_json(manifest: ReleaseManifest) -> str:
    """The manifest as JSON."""
    return json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2) + "\n"


def read_manifest(path: Path) -> ReleaseManifest:
    """Read the manifest in a release's folder, whose name is the version.

    Raises ReleaseError if it is missing, damaged, another release's or of another format.
    """
    try:
        values = json.loads(read_file(path, MOST_BYTES))
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        manifest = _record(ReleaseManifest, values)
        _check(manifest, path.parent.name)
    except FileNotFoundError as error:
        raise ReleaseError(f"no release manifest at {path}") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, ExportError):
            raise
        reason = printable(str(error))[:200]
        raise ReleaseError(f"{path} is not a release manifest of this version of the project: {reason}") from error
    return manifest


def _check(manifest: ReleaseManifest, folder: str) -> None:
    """Raise ValueError for values that `export` never writes."""
    if str(manifest.version) != folder:
        raise ValueError(f"version: expected {folder}, as its folder, found {manifest.version}")
    datetime.fromisoformat(manifest.created)
    if set(manifest.files) != release_files(manifest.version):
        raise ValueError(f"files: expected {sorted(release_files(manifest.version))}, found {sorted(manifest.files)}")
    hashes = (manifest.checkpoint_sha256, manifest.vocabulary_sha256, manifest.data_sha256, *manifest.files.values())
    if wrong := [each for each in hashes if not DIGEST.fullmatch(each)]:
        raise ValueError(f"expected SHA-256 in hexadecimal, found {wrong[0][:80]!r}")
    if {*manifest.precision_at_5} != {"checkpoint", "release"}:
        raise ValueError(f"precision_at_5: expected checkpoint and release, found {sorted(manifest.precision_at_5)}")


def _record(kind: type[T], values: Any) -> T:
    """An instance of a dataclass from a JSON object. Raises TypeError for missing fields and for other types."""
    hints = get_type_hints(kind)
    if not isinstance(values, dict) or values.keys() - hints.keys():
        raise TypeError(f"expected an object with {', '.join(hints)}")
    return kind(**{name: _value(name, hints[name], value) for name, value in values.items()})


def _value(name: str, hint: Any, value: Any) -> Any:
    """A JSON value as the type of its field, with printable texts. Raises TypeError for another type."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(name, parts[0], each) for each in value)
    if origin is Mapping and isinstance(value, dict):
        return {printable(key): _value(f"{name} {key}", parts[1], each) for key, each in value.items()}
    if hint is Gate:
        return _record(Gate, value)
    if hint is str and isinstance(value, str) and len(value) <= MOST_CHARACTERS:
        return printable(value)
    whole = type(value) is int and 0 <= value < 2**63
    number = whole or (type(value) is float and math.isfinite(value))
    if (hint is int and whole) or (hint is float and number) or (origin is Literal and value in parts):
        return value
    expected = hint.__name__ if isinstance(hint, type) else hint
    raise TypeError(f"{name}: expected {expected}, found {str(value)[:80]!r}")
