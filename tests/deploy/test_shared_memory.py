import subprocess
import sys
import uuid
from pathlib import Path

from deploy.local.server import SHARED_MEMORY, _remove_abandoned
from measure.waiting import wait_until


def region(server_id: str) -> Path:
    path = SHARED_MEMORY / f"{server_id}_0"
    path.write_bytes(b"left behind")
    return path


def test_a_start_removes_what_killed_servers_left_and_nothing_else() -> None:
    killed, alive, other = (f"altreco-{uuid.uuid4().hex}" for _ in range(3))
    regions = [region(killed), region(alive), region(f"{other[:-1]}-of-somebody-else")]
    try:
        waiting = [sys.executable, "-c", "input()", "--id", alive]
        with subprocess.Popen(waiting, stdin=subprocess.PIPE) as server:
            wait_until(lambda: alive in Path(f"/proc/{server.pid}/cmdline").read_text())
            _remove_abandoned()
            assert [path.exists() for path in regions] == [False, True, True]
            server.communicate(b"\n")
        _remove_abandoned()
        assert [path.exists() for path in regions] == [False, False, True]
    finally:
        for path in regions:
            path.unlink(missing_ok=True)
