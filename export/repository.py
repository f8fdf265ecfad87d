"""The files of the releases in a Triton model repository, and every change to them.

    <component>/<version>/model.onnx     the weights
    classifier/tags.txt                  the vocabulary, the same for all releases
    tag_recommender/<version>/           release.json and golden.npz
    tag_recommender/config.pbtxt         pins one version and is the only switch

A release is staged as a separate model repository in a folder that Triton ignores. Then every file is renamed to its
place, the switch last. A version number is never used twice, because a server's cache may hold answers of the old one.
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
from export.manifest import MANIFEST_FILE, MODEL_FILE, ReleaseManifest, check_contract, read_manifest
from export.tree import VERSION, check_links

STAGING = ".staging"
LOCK_FILE = ".lock"

State = Literal["current", "ready", "withdrawn", "pruned", "incomplete", "damaged", "foreign"]
"""State of a version.

current       pinned by the ensemble
ready         complete
withdrawn     complete, but moved to where no server looks
pruned        only the manifest is left
incomplete    some of its files are missing
damaged       has a manifest that cannot be read
foreign       has no manifest
"""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version in the repository."""

    number: int
    state: State
    manifest: ReleaseManifest | None
    """None for a foreign and for a damaged version."""
    problem: str = ""
    """What is wrong with a damaged version."""
    missing: tuple[str, ...] = ()
    """Files that an incomplete version lacks, or the current one, as paths in the repository."""


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Lock the repository for writing.

    Raises RepositoryBusy if another process has it, ReleaseError if it holds links, ExportError if it is not writable.
    """
    path = ensemble_folder(repository) / LOCK_FILE
    check_links(repository)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ExportError(f"cannot write to {repository}: {error.strerror}; nothing was changed") from error
    with open(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RepositoryBusy(
                f"another command is writing to {repository}: wait until it is done, then try again"
            ) from error
        yield


def versions(repository: Path) -> list[Version]:
    """All versions in the repository, oldest first."""
    current = released_version(repository)
    return [_version(repository, number, current) for number in sorted(_numbers(repository))]


def find_version(repository: Path, number: int) -> Version:
    """Find the version with this number. Raises ReleaseError, which lists the releases, if there is none."""
    if number not in _numbers(repository):
        known = ", ".join(str(version.number) for version in versions(repository) if version.manifest) or "none"
        raise ReleaseError(f"{repository} has no release {number}; its releases: {known}")
    return _version(repository, number, released_version(repository))


def load_release(repository: Path, number: int | None = None) -> tuple[ReleaseManifest, GoldenSet]:
    """Read a release (default: the pinned one) and its golden set. Raises ReleaseError and GoldenSetError."""
    if number is None:
        number = released_version(repository)
    if number is None:
        command = f".venv/bin/python -m export release CHECKPOINT --repository {repository}"
        raise ReleaseError(f"{repository} has no release yet: `{command}` makes one")
    manifest = find_manifest(repository, number)
    check_contract(manifest)
    golden = load_golden_set(golden_file(repository, number), version=number)
    if golden.tags.shape[1] != manifest.tags:
        found = golden.tags.shape[1]
        raise ReleaseError(f"release {number}: its manifest says {manifest.tags} tags, its golden set has {found}")
    return manifest, golden


def find_manifest(repository: Path, number: int) -> ReleaseManifest:
    """The manifest of a release. Raises ReleaseError if it has none, or a damaged one."""
    version = find_version(repository, number)
    if version.manifest is None:
        nothing = f"release {number} has no {MANIFEST_FILE}: it was not published by this project's export"
        raise ReleaseError(version.problem or nothing)
    return version.manifest


def next_version(repository: Path) -> int:
    """Return the next version number, above all that were ever used."""
    return max(_numbers(repository), default=0) + 1


@contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """Yield a temporary copy of the configs and labels, in which a new version is made and checked."""
    folder = ensemble_folder(repository) / STAGING
    shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
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
    """Move a staged version to its place and pin it last. Until then the old release is complete and served.

    Removes the version again if it raises OSError.
    """
    _synchronize(staged)
    name = contract.TAG_RECOMMENDER.name
    folders = [Path(name, str(version)), *(Path(model.name, str(version)) for model in contract.COMPONENTS)]
    labels = Path(contract.CLASSIFIER.name, contract.LABELS_FILE)
    try:
        if not (repository / labels).exists():
            (staged / labels).rename(repository / labels)
        for folder in folders:  # the manifest first: it marks the others as our release
            (staged / folder).rename(repository / folder)
        pin(repository, version)
    except OSError:
        for folder in folders:
            shutil.rmtree(repository / folder, ignore_errors=True)
        raise


def pin(repository: Path, version: int) -> None:
    """Make the ensemble pin this version, with one rename. Servers load it from then on."""
    path = ensemble_folder(repository) / CONFIG_FILE
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # left by a process that was killed
    with partial.open("x", encoding="utf-8") as file:
        file.write(ensemble_config(repository, version))
    _synchronize(partial)
    partial.replace(path)
    for model in (*contract.COMPONENTS, contract.TAG_RECOMMENDER):
        _synchronize_one(repository / model.name)


def withdraw(repository: Path, version: int) -> None:
    """Move a version's weights to where no server looks: weights that do not load keep a server from starting."""
    for model in contract.COMPONENTS:
        (repository / model.name / str(version)).rename(_withdrawn(repository, model, version))


def restore(repository: Path, version: int) -> None:
    """Undo `withdraw`, if there was one."""
    for model in contract.COMPONENTS:
        if _withdrawn(repository, model, version).exists():
            _withdrawn(repository, model, version).rename(repository / model.name / str(version))


def discard(repository: Path, version: int) -> None:
    """Remove a version's weights and golden set. The manifest stays as a record and reserves the number."""
    restore(repository, version)
    for model in contract.COMPONENTS:
        folder = repository / model.name / str(version)
        if folder.exists():
            # Renamed first, so that a server finds the version either complete or not at all.
            gone = folder.rename(folder.with_name(f".{version}.gone"))
            shutil.rmtree(gone)
    (ensemble_folder(repository) / str(version) / GOLDEN_FILE).unlink(missing_ok=True)


def discard_leftovers(repository: Path) -> None:
    """Remove what killed commands left behind."""
    for version in versions(repository):
        if version.state == "incomplete":
            discard(repository, version.number)
    for model in contract.COMPONENTS:
        for folder in (repository / model.name).glob(".*.gone"):
            shutil.rmtree(folder)


def model_files(folder: Path, version: int) -> dict[str, Path]:
    """Return the path of each model's ONNX file, in a repository or a staged copy."""
    return {model.name: folder / model.name / str(version) / MODEL_FILE for model in contract.COMPONENTS}


def manifest_file(repository: Path, version: int) -> Path:
    """Return the path of a release's manifest."""
    return ensemble_folder(repository) / str(version) / MANIFEST_FILE


def golden_file(repository: Path, version: int) -> Path:
    """Return the path of a release's golden set."""
    return ensemble_folder(repository) / str(version) / GOLDEN_FILE


def labels_file(repository: Path) -> Path:
    """Return the path of the label file, which holds the vocabulary."""
    return repository / contract.CLASSIFIER.name / contract.LABELS_FILE


def label_lines(tags: Sequence[str]) -> str:
    """Format the label file: one tag per line, in the order of the TAGS tensor."""
    return "".join(f"{tag}\n" for tag in tags)


def ensemble_folder(repository: Path) -> Path:
    """Return the ensemble's folder. Raises ConfigError if `repository` is not a model repository."""
    read_config(repository, contract.TAG_RECOMMENDER.name)
    return repository / contract.TAG_RECOMMENDER.name


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(repository: Path, number: int, current: int | None) -> Version:
    path = manifest_file(repository, number)
    if not path.exists():
        return Version(number=number, state="foreign", manifest=None)
    try:
        manifest = read_manifest(path)
    except ReleaseError as error:
        return Version(number=number, state="damaged", manifest=None, problem=str(error))
    files = (*model_files(repository, number).values(), golden_file(repository, number))
    missing = tuple(str(file.relative_to(repository)) for file in files if not file.exists())
    if number == current:
        return Version(number=number, state="current", manifest=manifest, missing=missing)
    if any(_withdrawn(repository, model, number).exists() for model in contract.COMPONENTS):
        return Version(number=number, state="withdrawn", manifest=manifest)
    if len(missing) == len(files):
        return Version(number=number, state="pruned", manifest=manifest)
    return Version(number=number, state="incomplete" if missing else "ready", manifest=manifest, missing=missing)


def _withdrawn(repository: Path, model: contract.Model, number: int) -> Path:
    return repository / model.name / f".{number}.withdrawn"


def _numbers(repository: Path) -> set[int]:
    ensemble_folder(repository)
    models = (*contract.COMPONENTS, contract.TAG_RECOMMENDER)
    folders = [path.name for model in models for path in (repository / model.name).iterdir() if path.is_dir()]
    return {int(name) for name in folders if VERSION.fullmatch(name)}


def _synchronize(path: Path) -> None:
    """Write files to the disk, so that a later rename cannot reach it before their contents."""
    for each in (path, *path.rglob("*")):
        _synchronize_one(each)


def _synchronize_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
