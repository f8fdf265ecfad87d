"""Commands that end with the process that started them, by the kernel's word, whatever ends it.

`subprocess` offers `preexec_fn` for this, and forks where it is given. In the copy of a process that uses gRPC, gRPC's
threads begin anew, and abort it now and then before the command is there (grpc/grpc issue 43055; 29 of 1,500 times
here). So the system call is made by the new process: this file, which then becomes the command.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tied(command: Sequence[str | Path]) -> list[str]:
    """The same command, sent SIGTERM when the calling thread ends; its process id is the command's own."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *map(str, command)]


def _become(parent: int, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the system call
        sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error.strerror}")


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
