"""Locust's processes, one or a master and its workers: started, watched, and ended together with this process.

Workers on other machines are not among them.
"""

import math
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from deploy.access import PLAIN
from deploy.local.process import Running, free_port, running
from loadtest.errors import LoadtestError
from loadtest.load.plan import Plan
from loadtest.run.parts import NO_RECORDS

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
LOCUST_LOG = "locust.log"
LOG_LINES = 5
STOP_S = 15.0
"""Time to stop, after the deadline of the last requests."""


@dataclass(frozen=True)
class Generators:
    """Running processes; the others end when the first one does."""

    processes: tuple[Running, ...]
    patience_s: float
    log: Path

    def wait(self, seconds: float) -> bool:
        """Wait, and return whether the run has ended; raises LoadtestError if a process failed."""
        if self.processes[0].wait(seconds) == 0:
            for worker in self.processes[1:]:  # they still record requests in flight, for which a master does not wait
                worker.wait(self.patience_s + STOP_S)
        codes = [process.poll() for process in self.processes]
        if NO_RECORDS in codes:
            raise LoadtestError(f"the records of requests cannot be written to {self.log.parent}: is its disk full?")
        if failed := [code for code in codes if code]:
            raise LoadtestError(f"a generator failed (exit code {failed[0]}):\n  {self._end()}")
        return codes[0] is not None

    def stop(self) -> None:
        """End the run, waiting for requests in flight until their deadline."""
        self.processes[0].interrupt()  # on SIGTERM, Locust exits at once
        if any(process.wait(self.patience_s + STOP_S) is None for process in self.processes):
            self.kill()

    def kill(self) -> None:
        """Kill all processes."""
        for process in self.processes:
            process.kill()

    def _end(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if re.match("error: |OSError: ", line)]
        return "\n  ".join((errors[:1] or lines[-LOG_LINES:]) or ["its log is empty"])


@contextmanager
def generating(plan: Plan, folder: Path, parts: Path) -> Iterator[Generators]:
    """Run the processes of a plan, with records in `parts`, and Locust's log and CSV in `folder`."""
    log = folder / LOCUST_LOG
    log.write_bytes(b"")
    with ExitStack() as stack:
        processes = tuple(
            stack.enter_context(
                running(
                    [sys.executable, "-m", *arguments],
                    log_path=log,
                    stop_timeout_s=0,
                    env=of.environment(),
                    append=True,
                )
            )
            for of, arguments in _commands(plan, folder, parts)
        )
        yield Generators(processes, plan.patience_s, log)


def _commands(plan: Plan, folder: Path, parts: Path) -> list[tuple[Plan, list[str]]]:
    """List the plan and the module with arguments of each process, the one that ends the run first."""
    if plan.bind is not None:
        return [(replace(plan, access=PLAIN), ["loadtest.run.master", str(parts)])]
    locust = ["locust", "-f", str(LOCUSTFILE)]
    master = ["--headless", "--csv", str(folder / "locust"), "--exit-code-on-error", "0"]
    master += ["--stop-timeout", f"{math.ceil(plan.patience_s)}s"]  # Locust takes whole seconds alone
    if plan.workers == 1:
        return [(plan.for_worker(0, parts), [*locust, *master])]
    port = str(free_port())
    address = ["--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    workers = ["--expect-workers", str(plan.workers), "--expect-workers-max-wait", "60"]
    worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", port, "--exit-code-on-error", "0"]
    return [
        (plan, [*locust, "--master", *address, *workers, *master]),
        *((plan.for_worker(number, parts), [*locust, *worker]) for number in range(plan.workers)),
    ]


class Usage:
    """CPU use of the generators, as shares of a core."""

    def __init__(self, generators: Generators) -> None:
        """Measure from now on."""
        self._processes = [psutil.Process(process.pid) for process in generators.processes]
        self._last = self._read()

    def busiest(self) -> float:
        """Share of a core used by the busiest process since the last call."""
        before, self._last = self._last, self._read()
        (then, spent_then), (now, spent_now) = before, self._last
        return max((b - a) / (now - then) for a, b in zip(spent_then, spent_now, strict=True))

    def _read(self) -> tuple[float, list[float]]:
        return time.monotonic(), [_cpu_s(process) for process in self._processes]


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # it has ended
    return float(times.user + times.system)
