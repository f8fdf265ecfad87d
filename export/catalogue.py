"""The commands list, show, diff, rollback and prune."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from export.checks import check_release
from export.errors import ExportError, ReleaseError
from export.gate import Gate
from export.golden import load_golden_set
from export.manifest import ReleaseManifest, check_contract
from export.repository import (
    Version,
    discard,
    discard_leftovers,
    find_manifest,
    find_version,
    golden_file,
    locked,
    model_files,
    pin,
    restore,
    versions,
)
from export.tree import foreign

HASH = 12
"""Number of characters of a hash that are shown."""

EXPLAINED = {
    "current": "the ensemble pins it",
    "ready": "can be rolled back to",
    "withdrawn": "a server could not load it; a rollback or rollout to it tries again",
    "pruned": "only its manifest is left",
    "incomplete": (
        "files were deleted, or its publishing or pruning was interrupted; the next release or prune removes the others"
    ),
    "damaged": "its release.json is not one that this project writes; `verify --version` says why",
    "foreign": "it has no release.json: this project did not publish it and leaves it alone",
}


def list_releases(repository: Path) -> str:
    """Format all releases as a table, newest last."""
    found = versions(repository)
    if not found:
        command = f".venv/bin/python -m export release CHECKPOINT --repository {repository}"
        return f"{repository} has no release yet: `{command}` makes one"
    rows: list[tuple[str, ...]] = [
        ("release", "created", "preset", "precision", "precision@5", "MB", "checkpoint", "state")
    ]
    rows.extend(_row(repository, version) for version in found)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if others := [name for name in foreign(repository) if "/" not in name]:
        lines.append(f"no part of a release: {', '.join(others)}")
    return "\n".join(lines)


def show_release(manifest: ReleaseManifest, version: Version) -> str:
    """Format a release's manifest and its state."""
    values = {name: value for name, value in asdict(manifest).items() if name not in ("gates", "files", "tools")}
    values["state"] = _explained(version)
    lines = [f"{name:18} {_text(value)}" for name, value in values.items()]
    lines += ["tools", *(f"  {name:16} {value}" for name, value in manifest.tools.items())]
    lines += ["gates", *(f"  {gate}" for gate in manifest.gates)]
    lines += ["files", *(f"  {digest[:HASH]}  {name}" for name, digest in manifest.files.items())]
    return "\n".join(lines)


def diff_releases(repository: Path, first: int, second: int) -> str:
    """Compare manifest fields, file hashes and answers to the golden inputs."""
    old, new = find_manifest(repository, first), find_manifest(repository, second)
    lines = [*_differences(_flat(old), _flat(new)), *_answers(repository, first, second)]
    return "\n".join([f"release {first} -> {second}", *lines])


def rollback(repository: Path, to: int) -> str:
    """Pin another complete release. A running server changes with `rollout`. Raises ReleaseError."""
    with locked(repository):
        version = find_version(repository, to)
        if version.state == "current":
            return f"{repository} pins release {to} already"
        if version.state not in ("ready", "withdrawn") or version.manifest is None:
            raise ReleaseError(f"release {to} is {_explained(version)}; it cannot be served")
        try:
            check_contract(version.manifest)
            restore(repository, to)
            check_release(repository, version.manifest)
            pin(repository, to)
        except OSError as error:
            raise ExportError(f"cannot write to {repository}: {error}; the pinned release is unchanged") from error
    return f"{repository} pins release {to} now; to switch a running server, use `.venv/bin/python -m export rollout`"


def prune(repository: Path, keep: int, in_use: frozenset[int] = frozenset()) -> str:
    """Remove the weights of all but the newest `keep` releases, the pinned release and those `in_use`."""
    if keep < 1:
        raise ReleaseError(f"keep is {keep}: expected at least 1")
    with locked(repository):
        found = versions(repository)
        whole = [version.number for version in found if version.state in ("current", "ready", "withdrawn")]
        pinned = {version.number for version in found if version.state == "current"}
        removed = [number for number in whole[:-keep] if number not in pinned | in_use]
        try:
            discard_leftovers(repository)
            for number in removed:
                discard(repository, number)
        except OSError as error:
            raise ExportError(f"cannot write to {repository}: {error}; the pinned release is complete") from error
    kept = [number for number in whole if number not in removed]
    text = f"removed: {', '.join(map(str, removed)) or 'none'}; kept: {', '.join(map(str, kept))}"
    if removed and len(kept) == 1:
        text += f"\nno release is left to roll back to: `prune --keep 2` would have kept {removed[-1]}"
    return text


def _state(version: Version) -> str:
    return f"{version.state}, without {', '.join(version.missing)}" if version.missing else version.state


def _explained(version: Version) -> str:
    return f"{_state(version)}: {EXPLAINED[version.state]}"


def _row(repository: Path, version: Version) -> tuple[str, ...]:
    manifest, number = version.manifest, str(version.number)
    if manifest is None:
        return (number, *("-" for _ in range(6)), version.state)
    files = [file for file in model_files(repository, version.number).values() if file.exists()]
    return (
        number,
        manifest.created.replace("+00:00", "Z"),
        manifest.preset,
        manifest.precision,
        f"{manifest.precision_at_5['release']:.3f}",
        f"{sum(file.stat().st_size for file in files) / 1e6:.0f}",
        manifest.checkpoint_sha256[:HASH],
        _state(version),
    )


def _flat(manifest: ReleaseManifest) -> dict[str, str]:
    """Flatten the fields to text. Paths lose the version, so that the files of two releases can be compared."""
    flat: dict[str, str] = {}
    for name, value in asdict(manifest).items():
        if name == "gates":
            flat |= {gate.name: _measured(gate) for gate in manifest.gates}
        elif name == "files":
            flat |= {file.replace(f"/{manifest.version}/", "/"): digest[:HASH] for file, digest in value.items()}
        elif isinstance(value, Mapping):
            flat |= {f"{name} {key}": _text(entry) for key, entry in value.items()}
        else:
            flat[name] = _text(value)[: HASH if name.endswith("sha256") else None]
    return flat


def _measured(gate: Gate) -> str:
    return f"{gate.measured:.2g}"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield f"  {name:34} {old.get(name, '-')} -> {new.get(name, '-')}"


def _answers(repository: Path, first: int, second: int) -> Iterator[str]:
    paths = golden_file(repository, first), golden_file(repository, second)
    if not all(path.exists() for path in paths):
        yield "  answers: not compared, a golden set was pruned"
        return
    old, new = (load_golden_set(path, version=v) for path, v in zip(paths, (first, second), strict=True))
    same = old.inputs.names == new.inputs.names and np.array_equal(old.inputs.image, new.inputs.image)
    if not same or not np.array_equal(old.inputs.counts, new.inputs.counts):
        yield "  answers: not compared, the golden inputs differ"
        return
    best = [np.argsort(-golden.tags, 1)[:, :5] for golden in (old, new)]
    common = np.mean([len(set(a) & set(b)) for a, b in zip(*best, strict=True)])
    yield f"  answers to {len(old.inputs.names)} golden inputs: {common:.1f} of the best 5 tags in common on average,"
    yield f"    max abs difference {np.abs(old.tags - new.tags).max():.2g}"
