"""What a killed Triton leaves behind: shared memory, and the server's own folder with its log."""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
SERVER_ID = re.compile(r"altreco-[0-9a-f]{32}")
FOLDER_PREFIX = "altreco-local-"
NEW_S = 60.0
"""Age below which a folder may not be locked yet."""


@contextlib.contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """Create a folder for the block, locked until this process ends. Removes those whose process was killed."""
    _remove_folders(parent)
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, dir=parent) as name, _opened(Path(name)) as descriptor:
        _lock(descriptor)
        yield Path(name).resolve()


@contextlib.contextmanager
def shared_memory(server_id: str) -> Iterator[None]:
    """Remove the server's shared memory at the end of the block, and before it that of servers that were killed."""
    _remove_regions()
    try:
        yield
    finally:
        for region in SHARED_MEMORY.glob(f"{server_id}*"):
            region.unlink(missing_ok=True)


def _remove_folders(parent: Path) -> None:
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError), _opened(folder) as descriptor:  # removed already, or another user's
            if time.time() - os.fstat(descriptor).st_mtime > NEW_S and _lock(descriptor):
                shutil.rmtree(folder)


def _remove_regions() -> None:
    regions = {region: found[0] for region in SHARED_MEMORY.glob("*") if (found := SERVER_ID.match(region.name))}
    if not regions:
        return
    running = set[str]()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # a process that has ended since
            running.update(command.read_text(errors="replace").split("\0"))
    for region, server_id in regions.items():
        if server_id not in running:
            with contextlib.suppress(FileNotFoundError, PermissionError):  # removed already, or another user's
                region.unlink()


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock it, if no other process has and the file system can: on some network file systems, nothing is removed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
