"""The releases of a Triton model repository as files: which there are, which one is pinned, and how that changes.

    <component>/<version>/model.onnx     the weights
    classifier/tags.txt                  the vocabulary, the same for all releases
    tag_recommender/<version>/           release.json and golden.npz
    tag_recommender/config.pbtxt         pins one version: the only switch

A release is staged in a folder that Triton does not look into, as a model repository of its own, and every file gets
its place by a rename, the switch last. A version number is never used twice: a server's cache may know the old one.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from altreco_client import contract

from export.config import CONFIG_FILE, ensemble_config, read_config, released_version
from export.errors import ExportError, ReleaseError, RepositoryBusy
from export.golden import GOLDEN_FILE, GoldenSet, load_golden_set
from export.manifest import MANIFEST_FILE, ReleaseManifest, read_manifest

MODEL_FILE = "model.onnx"
STAGING = ".staging"
LOCK_FILE = ".lock"

State = Literal["current", "ready", "withdrawn", "pruned", "unfinished", "foreign"]
"""Pinned; whole; whole, but where no server looks; only its manifest is left; a publish was cut off; no manifest."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version number in the repository."""

    number: int
    state: State
    manifest: ReleaseManifest | None
    """None of a foreign one."""


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Hold the repository for writing; raises RepositoryBusy while another process does, ExportError if unwritable."""
    path = ensemble_folder(repository) / LOCK_FILE
    try:
        file = path.open("w")
    except OSError as error:
        raise ExportError(f"cannot write to {repository}: {error.strerror}; nothing was changed") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RepositoryBusy(
                f"another command is writing to {repository}: wait until it is done, then try again"
            ) from error
        yield


def versions(repository: Path) -> list[Version]:
    """All that stand in the repository, oldest first; raises ExportError for a damaged manifest."""
    current = released_version(repository)
    return [_version(repository, number, current) for number in sorted(_numbers(repository))]


def find_version(repository: Path, number: int) -> Version:
    """One of them; raises ReleaseError that lists what there is."""
    if number not in _numbers(repository):
        known = ", ".join(str(version.number) for version in versions(repository) if version.manifest) or "none"
        raise ReleaseError(f"{repository} has no release {number}; its releases: {known}")
    return _version(repository, number, released_version(repository))


def load_release(repository: Path, number: int | None = None) -> tuple[ReleaseManifest, GoldenSet]:
    """A release (default: the pinned one) and its golden set; raises ReleaseError and GoldenSetError."""
    if number is None:
        number = released_version(repository)
    if number is None:
        raise ReleaseError(f"{repository} has no release yet: `python -m export release CHECKPOINT` makes one")
    return find_manifest(repository, number), load_golden_set(golden_file(repository, number), version=number)


def find_manifest(repository: Path, number: int) -> ReleaseManifest:
    """A release's manifest; raises ReleaseError where there is none."""
    manifest = find_version(repository, number).manifest
    if manifest is None:
        raise ReleaseError(f"release {number} has no {MANIFEST_FILE}: it was not published by this project's export")
    return manifest


def next_version(repository: Path) -> int:
    """One above every number that was ever used."""
    return max(_numbers(repository), default=0) + 1


@contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """A copy of the configs and labels, for a new version's files to be checked in; gone afterwards."""
    folder = ensemble_folder(repository) / STAGING
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    try:
        for model in (*contract.COMPONENTS, contract.TAG_RECOMMENDER):
            source, target = repository / model.name, folder / model.name
            target.mkdir(parents=True)
            for file in (*source.glob("*.pbtxt"), *source.glob("*.txt")):
                shutil.copy(file, target)
            if (source / "configs").is_dir():
                shutil.copytree(source / "configs", target / "configs")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(repository: Path, staged: Path, version: int) -> None:
    """Give everything its place, the pin last: until then the old release is whole, and the one that is served.

    Raises OSError; then the version is taken away again.
    """
    _synchronize(staged)
    name = contract.TAG_RECOMMENDER.name
    folders = [Path(name, str(version)), *(Path(model.name, str(version)) for model in contract.COMPONENTS)]
    labels = Path(contract.CLASSIFIER.name, contract.LABELS_FILE)
    try:
        if not (repository / labels).exists():
            (staged / labels).rename(repository / labels)
        for folder in folders:  # the manifest first: it tells whose the others are
            (staged / folder).rename(repository / folder)
        pin(repository, version)
    except OSError:
        for folder in folders:
            shutil.rmtree(repository / folder, ignore_errors=True)
        raise


def pin(repository: Path, version: int) -> None:
    """Make the ensemble's config name this version; what a server loads from then on. One rename."""
    path = ensemble_folder(repository) / CONFIG_FILE
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(ensemble_config(repository, version), encoding="utf-8")
    _synchronize(partial)
    partial.replace(path)
    for model in (*contract.COMPONENTS, contract.TAG_RECOMMENDER):
        _synchronize_one(repository / model.name)


def withdraw(repository: Path, version: int) -> None:
    """Put a version's weights where no server looks: one that does not load would keep a server from starting."""
    for model in contract.COMPONENTS:
        (repository / model.name / str(version)).rename(_withdrawn(repository, model, version))


def restore(repository: Path, version: int) -> None:
    """Take back a `withdraw`, if there was one."""
    for model in contract.COMPONENTS:
        if _withdrawn(repository, model, version).exists():
            _withdrawn(repository, model, version).rename(repository / model.name / str(version))


def discard(repository: Path, version: int) -> None:
    """Remove a version's weights and golden set; its manifest stays, as a record and to keep the number taken."""
    restore(repository, version)
    for model in contract.COMPONENTS:
        folder = repository / model.name / str(version)
        if folder.exists():
            # A rename first: a server that looks meanwhile finds the version whole, or not at all.
            gone = folder.rename(folder.with_name(f".{version}.gone"))
            shutil.rmtree(gone)
    (ensemble_folder(repository) / str(version) / GOLDEN_FILE).unlink(missing_ok=True)


def discard_leftovers(repository: Path) -> None:
    """What commands that were killed left behind."""
    for version in versions(repository):
        if version.state == "unfinished":
            discard(repository, version.number)
    for model in contract.COMPONENTS:
        for folder in (repository / model.name).glob(".*.gone"):
            shutil.rmtree(folder)


def model_files(folder: Path, version: int) -> dict[str, Path]:
    """Model name to ONNX file, in a repository or a staged one."""
    return {model.name: folder / model.name / str(version) / MODEL_FILE for model in contract.COMPONENTS}


def manifest_file(repository: Path, version: int) -> Path:
    """Where a release's manifest is."""
    return ensemble_folder(repository) / str(version) / MANIFEST_FILE


def golden_file(repository: Path, version: int) -> Path:
    """Where a release's golden set is."""
    return ensemble_folder(repository) / str(version) / GOLDEN_FILE


def labels_file(repository: Path) -> Path:
    """Where the vocabulary is."""
    return repository / contract.CLASSIFIER.name / contract.LABELS_FILE


def label_lines(tags: Sequence[str]) -> str:
    """What that file holds: one tag a line, in the order of the TAGS tensor."""
    return "".join(f"{tag}\n" for tag in tags)


def ensemble_folder(repository: Path) -> Path:
    """Of the ensemble; raises ConfigError where there is no repository."""
    read_config(repository, contract.TAG_RECOMMENDER.name)
    return repository / contract.TAG_RECOMMENDER.name


def check_files(repository: Path, manifest: ReleaseManifest) -> None:
    """Raise ReleaseError unless every file of the release, and the vocabulary, is what the manifest says."""
    expected = {**manifest.files, str(labels_file(Path())): manifest.vocabulary_sha256}
    for name, digest in expected.items():
        path = repository / name
        if not path.is_file():
            raise ReleaseError(f"release {manifest.version}: {path} is missing; it cannot be served")
        if (found := sha256(path)) != digest:
            raise ReleaseError(
                f"release {manifest.version}: {path} is not the file that was published: expected SHA-256 "
                f"{digest[:12]}..., found {found[:12]}...; restore it, or release the checkpoint again"
            )


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(repository: Path, number: int, current: int | None) -> Version:
    path = manifest_file(repository, number)
    if not path.exists():
        return Version(number=number, state="foreign", manifest=None)
    return Version(number=number, state=_state(repository, number, current), manifest=read_manifest(path))


def _state(repository: Path, number: int, current: int | None) -> State:
    if number == current:
        return "current"
    if any(_withdrawn(repository, model, number).exists() for model in contract.COMPONENTS):
        return "withdrawn"
    there = [file.exists() for file in model_files(repository, number).values()]
    golden = golden_file(repository, number).exists()
    if all(there) and golden:
        return "ready"
    return "unfinished" if golden or any(there) else "pruned"


def _withdrawn(repository: Path, model: contract.Model, number: int) -> Path:
    return repository / model.name / f".{number}.withdrawn"


def _numbers(repository: Path) -> set[int]:
    ensemble_folder(repository)
    models = (*contract.COMPONENTS, contract.TAG_RECOMMENDER)
    folders = [path.name for model in models for path in (repository / model.name).iterdir() if path.is_dir()]
    return {int(name) for name in folders if name.isdecimal()}


def _synchronize(path: Path) -> None:
    """A rename must not reach the disk before what it names."""
    for each in (path, *path.rglob("*")):
        _synchronize_one(each)


def _synchronize_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
