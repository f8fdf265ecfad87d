"""Commands in the test's own process: a new one imports torch, gRPC or Locust for seconds before its first line."""

import signal
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess

ROOT = Path(__file__).parents[1]


def called(main: Callable[[list[str]], int], *words: object, folder: Path = ROOT) -> CompletedProcess[str]:
    """Call a command's `main` in a folder: what it printed, and its exit code, also where argparse ends it."""
    arguments = [str(word) for word in words]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with chdir(folder), redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
