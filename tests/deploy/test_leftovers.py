import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

from deploy.local.leftovers import FOLDER_PREFIX, NEW_S, SHARED_MEMORY, own_folder, shared_memory
from measure.waiting import wait_until


def region(server_id: str) -> Path:
    path = SHARED_MEMORY / f"{server_id}_0"
    path.write_bytes(b"left behind")
    return path


def test_a_start_removes_what_killed_servers_left_and_nothing_else() -> None:
    killed, alive, other, starting = (f"altreco-{uuid.uuid4().hex}" for _ in range(4))
    regions: list[Path] = []
    try:
        waiting = [sys.executable, "-c", "input()", "--id", alive]
        with subprocess.Popen(waiting, stdin=subprocess.PIPE) as server:
            wait_until(lambda: alive in Path(f"/proc/{server.pid}/cmdline").read_text())
            # Not earlier: a server that another test starts removes the regions of what does not run.
            regions += [region(killed), region(alive), region(f"{other[:-1]}-of-somebody-else")]
            with shared_memory(starting):
                assert [path.exists() for path in regions] == [False, True, True]
            server.communicate(b"\n")
        with shared_memory(starting):
            assert [path.exists() for path in regions] == [False, False, True]
    finally:
        for path in regions:
            path.unlink(missing_ok=True)


def test_a_start_removes_the_folders_of_killed_servers_and_nothing_else(tmp_path: Path) -> None:
    killed, outside, new = tmp_path / f"{FOLDER_PREFIX}killed", tmp_path / "outside", tmp_path / f"{FOLDER_PREFIX}new"
    for folder in (killed, outside, new):
        folder.mkdir()
        (folder / "triton.log").touch()
    (killed / "models").symlink_to(outside)
    (tmp_path / f"{FOLDER_PREFIX}link").symlink_to(outside)
    with own_folder(tmp_path) as alive:
        for folder in (killed, outside, alive):
            os.utime(folder, times=(time.time() - 2 * NEW_S,) * 2)
        with own_folder(tmp_path) as starting:
            assert [folder.exists() for folder in (killed, alive, new, starting)] == [False, True, True, True]
            assert (outside / "triton.log").exists()
    assert not alive.exists()
    assert not starting.exists()
