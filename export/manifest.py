"""`release.json`: a release's contents, its origin and the results of its gates."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from export.errors import ExportError
from export.gate import Gate

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

FORMAT = "altreco-release-1"
MANIFEST_FILE = "release.json"


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
        """The gate of that name."""
        return next(gate for gate in self.gates if gate.name == name)

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


def to_json(manifest: ReleaseManifest) -> str:
    """The manifest as JSON."""
    return json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2) + "\n"


def read_manifest(path: Path) -> ReleaseManifest:
    """Read a manifest written by `to_json`. Raises ExportError if it is missing, damaged or of another format."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        gates = tuple(Gate(**gate) for gate in values.pop("gates"))
        return ReleaseManifest(**{**values, "gates": gates, "kept_in_float": tuple(values["kept_in_float"])})
    except FileNotFoundError as error:
        raise ExportError(f"no release manifest at {path}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{path} is not a release manifest of this version of the project: {error}") from error
