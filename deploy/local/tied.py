"""Commands that the kernel ends when the process that started them ends, for whatever reason.

`subprocess` has `preexec_fn` for this, which makes it fork. In a fork of a process that uses gRPC, gRPC restarts its
threads, and they sometimes abort the child before the command runs (grpc/grpc issue 43055; 29 of 1,500 times here). So
the new process runs this file, which makes the system call and then becomes the command.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tied(command: Sequence[str | Path]) -> list[str]:
    """Wrap a command so that it gets SIGTERM when the calling thread ends; its process id stays its own."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *map(str, command)]


def _become(parent: int, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before the system call
        sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error.strerror}")


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
