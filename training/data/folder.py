"""A data set folder that appears whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import DataError


def is_free(path: Path) -> bool:
    """Whether nothing is there but, at most, an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


@contextmanager
def renamed_when_complete(out: Path, mark: str) -> Iterator[Path]:
    """A new folder beside `out` that takes its name only after everything is in it, and is removed otherwise.

    What a killed process left there is removed as well, if the file `mark`, the first that is written, shows that it
    is such. Raises DataError for a folder of somebody else's, and for a disk that does not take it.
    """
    if not is_free(out):
        raise DataError(f"{out} exists: remove it or choose another folder")
    partial = out.with_name(out.name + ".partial")
    if not is_free(partial) and not (partial / mark).is_file():
        raise DataError(f"{partial} exists and is no unfinished data set: remove it or choose another folder")
    try:
        with renamed(partial, out):
            yield partial
    except OSError as error:
        raise DataError(f"cannot write {out}: {error}") from error


@contextmanager
def renamed(partial: Path, out: Path) -> Iterator[None]:
    """`partial`, new and empty, becomes `out` after everything is in it, and is removed otherwise; raises OSError."""
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
