"""The checks of a release's files, before they are served."""

from pathlib import Path

from export.config import check_ensemble, check_repository
from export.errors import ReleaseError
from export.manifest import ReleaseManifest
from export.repository import labels_file, sha256
from export.tree import check_tree
from export.untrusted import read_file

MOST_TAG_BYTES = 4_001
"""Most bytes of a line of the vocabulary: 1,000 characters of UTF-8 and a line end."""


def check_release(repository: Path, manifest: ReleaseManifest) -> None:
    """Check that the repository holds nothing but releases, this one as it was published, and configs that serve it.

    Raises ReleaseError and ConfigError.
    """
    check_tree(repository)
    check_files(repository, manifest)
    check_repository(repository)


def check_pinned(repository: Path, manifest: ReleaseManifest) -> None:
    """Check the release, and that the ensemble is the one that `export` writes. Raises ReleaseError and ConfigError."""
    check_release(repository, manifest)
    check_ensemble(repository)


def check_files(repository: Path, manifest: ReleaseManifest) -> None:
    """Raise ReleaseError unless the files of the release and the vocabulary have the hashes in the manifest."""
    expected = {**manifest.files, str(labels_file(Path())): manifest.vocabulary_sha256}
    for name, digest in sorted(expected.items()):
        path = repository / name
        if not path.is_file():
            raise ReleaseError(f"release {manifest.version}: {path} is missing; it cannot be served")
        if (found := sha256(path)) != digest:
            raise ReleaseError(
                f"release {manifest.version}: {path} is not the file that was published: expected SHA-256 "
                f"{digest[:12]}..., found {found[:12]}...; restore it, or release the checkpoint again"
            )
    labels = labels_file(repository)
    if (lines := read_file(labels, MOST_TAG_BYTES * manifest.tags).count(b"\n")) != manifest.tags:
        raise ReleaseError(f"{labels}: expected {manifest.tags} tags, found {lines} lines")
