"""A PostgreSQL server on a Unix socket, without a network or a password."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.tools import require

NUMBERS = count()


@dataclass(frozen=True)
class Postgres:
    """A server that can be stopped and started again."""

    programs: Path
    folder: Path

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self.run("pg_ctl", "-D", "data", "-l", "log", "-o", options, "-w", "start")

    def stop(self) -> None:
        """End it at once, with all connections."""
        self.run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"histories_{next(NUMBERS)}"
        self.run("createdb", "-h", str(self.folder), "-U", "altreco", name)
        return f"postgresql+psycopg://altreco@/{name}?host={self.folder}"

    def run(self, program: str, *words: str) -> None:
        """Run one of its programs in its folder; PostgreSQL refuses to run as root."""
        command = [str(self.programs / program), *words]
        if os.geteuid() == 0:  # without Popen's `user`, with which it forks: see deploy/local/tied.py
            command = ["setpriv", f"--reuid={_account()}", "--clear-groups", *command]
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _account() -> str:
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"


@contextmanager
def serving() -> Iterator[Postgres]:
    """A server over an empty folder, ended and removed at the end."""
    programs = Path(os.path.realpath(require("postgres"))).parent
    with tempfile.TemporaryDirectory(prefix="altreco-postgres-") as folder:
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam(_account()).pw_uid, -1)
        server = Postgres(programs, Path(folder))
        server.run("initdb", "-D", "data", "-U", "altreco", "-A", "trust", "--locale=C", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()
