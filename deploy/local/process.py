"""Run a command as a context manager: started on entry, and all of its processes ended on exit.

with running(["some-server", "--port", str(free_port())], log_path=Path("server.log"), stop_timeout_s=10) as process:
    wait_until_ready(process, lambda: None if answers() else "it does not answer", timeout_s=60)

The command is `tied` to the thread that starts it, and leads a process group of its own.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from deploy.local.tied import tied

POLL_S = 0.05
LAST_OUTPUT_S = 5.0  # for the last output of a process to be copied


class NotReady(RuntimeError):
    """The command was not ready in time; `problem` is what was missing last."""

    def __init__(self, problem: str) -> None:
        """Keep the problem."""
        super().__init__(problem)
        self.problem = problem


class EndedAtStart(NotReady):
    """The command ended before it was ready."""

    def __init__(self, problem: str, exit_code: int = 0) -> None:
        """Keep the problem and the exit code."""
        super().__init__(problem)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Running:
    """A started command; its output and that of its children go to the log."""

    log_path: Path
    _process: subprocess.Popen[bytes] = field(repr=False)
    _echo: threading.Thread | None = field(repr=False)

    @property
    def pid(self) -> int:
        """Process id of the command, which is also the id of its process group."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end; return the exit code, or None if the command still runs after the timeout."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        if self._echo is not None:
            self._echo.join(LAST_OUTPUT_S)
        return code

    def log(self) -> str:
        """Read the log so far."""
        return self.log_path.read_text(errors="replace")

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does, unless the command has ended."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the whole process group at once."""
        _kill(self._process)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log_path: Path,
    stop_timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    append: bool = False,
    echo: bool = False,
) -> Iterator[Running]:
    """Run a command for the duration of the `with` block.

    At the end it gets SIGTERM, and `stop_timeout_s` to end by itself. Then its process group is killed; with a timeout
    of 0, at once. `append` keeps the existing log, so that several commands can share one. `echo` copies the output to
    stderr.
    """
    if not append:
        log_path.write_bytes(b"")
    # Opened for appending in any case, so that no process overwrites the lines of another.
    with log_path.open("ab") as log:
        output = subprocess.PIPE if echo else log
        process = _start(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd)
    thread = None
    try:
        if process.stdout is not None:
            thread = threading.Thread(target=_copy_output, args=(process.stdout, log_path), daemon=True)
            thread.start()
        yield Running(log_path=log_path, _process=process, _echo=thread)
    finally:
        _end(process, stop_timeout_s)
        if thread is not None:
            thread.join()


@contextlib.contextmanager
def piped(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with pipes for its stdin and stdout; its process group is killed at the end."""
    process = _start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, env=env, cwd=cwd)
    try:
        yield process
    finally:
        _kill(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def wait_until_ready(process: Running, problem: Callable[[], str | None], timeout_s: float) -> None:
    """Wait until `problem` returns None; raises EndedAtStart, or NotReady after the timeout."""
    deadline = time.monotonic() + timeout_s
    while (found := problem()) is not None:
        if (code := process.wait(POLL_S)) is not None:
            raise EndedAtStart(found, code)
        if time.monotonic() > deadline:
            raise NotReady(found)


def free_port() -> int:
    """Return a port of 127.0.0.1 that was unused a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
        return port


def _start(
    command: Sequence[str | Path],
    *,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | None,
    env: Mapping[str, str] | None,
    cwd: Path | None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        tied(command),
        env=env,
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,  # so that Ctrl-C in the terminal reaches only this process
    )


def _end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    try:
        if timeout_s > 0:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Also for children that outlive the command.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _copy_output(output: IO[bytes], log_path: Path) -> None:
    with output, log_path.open("ab", buffering=0) as log:
        for line in output:
            log.write(line)
            sys.stderr.write(line.decode(errors="replace"))
