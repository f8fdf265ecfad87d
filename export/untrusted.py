"""Files that may come from an attacker: whoever may write to the volume or bucket of a release."""

import os
import stat
from pathlib import Path

from export.errors import ReleaseError


def read_file(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes. Raises ReleaseError for any other, FileNotFoundError for none."""
    # Opening a named pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise ReleaseError(f"{path}: expected a file of at most {most:,} bytes, found another kind or a larger one")
        return file.read(most)
