"""Data set folders that are created atomically."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import DataError


def is_free(path: Path) -> bool:
    """Whether a path does not exist or is an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


@contextmanager
def renamed_when_complete(out: Path, mark: str) -> Iterator[Path]:
    """Create a folder beside `out`, which is renamed to `out` at the end of the block, or removed after an error.

    A folder that a killed process left is removed if it has the file `mark`, which must be written first. Raises
    DataError if another folder is in the way, or if the disk refuses a write.
    """
    if not is_free(out):
        raise DataError(f"{out} exists: remove it or choose another folder")
    partial = out.with_name(out.name + ".partial")
    if not is_free(partial) and not (partial / mark).is_file():
        raise DataError(f"{partial} exists and is not an unfinished data set: remove it or choose another folder")
    try:
        with renamed(partial, out):
            yield partial
    except OSError as error:
        raise DataError(f"cannot write {out}: {error}") from error


@contextmanager
def renamed(partial: Path, out: Path) -> Iterator[None]:
    """Create `partial` empty, and rename it to `out` at the end of the block, or remove it. Raises OSError."""
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
