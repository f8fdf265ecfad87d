"""Find the highest rate that meets the SLOs: raise it until one is missed, then halve the gap.

The folder gets every step, a curve and a page. The exit code is 0; 1 if no rate meets the SLOs or the generator was the
limit; 2 if the search was not possible; 130 if it was stopped with Ctrl-C, which keeps the steps so far.
"""

import argparse
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtest.capacity.report import PAGE, write_capacity_report
from loadtest.capacity.search import Capacity, Search, judged, save_capacity, search, step_s
from loadtest.commands.target import add_load_options, generator_limit, target_of
from loadtest.errors import LoadtestError
from loadtest.judge.slo import load_slos
from loadtest.load.profiles import Profile, Stage
from loadtest.load.workload import load_workload
from loadtest.records import Run
from loadtest.run.one import run_load
from measure.markdown import number

CAPACITY = "capacity.json"
FOLDER = Path("build/loadtest/capacity")
DEFAULTS = Search()

Load = Callable[[float, float, Path], Run]
"""Runs an open load (requests per second, seconds, folder) and returns it; raises LoadtestError."""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the `capacity` command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "capacity",
        help="find the highest rate that meets the SLOs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("--slos", type=Path, required=True, metavar="FILE", help="objectives (SLOs), TOML; throughput is ignored")
    option("--out", type=Path, default=FOLDER, metavar="FOLDER", help="output folder (%(default)s)")
    option("--start", type=float, default=DEFAULTS.start_per_s, metavar="RATE", help="first requests/s (%(default)g)")
    option("--most", type=float, default=DEFAULTS.most_per_s, metavar="RATE", help="highest rate to try (%(default)g)")
    option("--growth", type=float, default=DEFAULTS.growth, metavar="X", help="factor between rates (%(default)g)")
    option("--precision", type=float, default=DEFAULTS.precision, help="last gap, share of the rate (%(default)g)")
    option("--repeats", type=int, default=DEFAULTS.repeats, help="most runs per rate at the border, odd (%(default)s)")
    shortest = "shortest run; it grows with the objectives of [all], not of other groups (%(default)g)"
    option("--step-seconds", type=float, default=15, metavar="S", help=shortest)
    add_load_options(parser)
    return parser


def run(arguments: argparse.Namespace, load: Load) -> int:
    """Search and keep every step; return 0, or 1 if no rate held or the generator was the limit.

    Raises LoadtestError.
    """
    slos = load_slos(arguments.slos)
    settings = Search(
        start_per_s=arguments.start,
        most_per_s=arguments.most,
        growth=arguments.growth,
        precision=arguments.precision,
        repeats=arguments.repeats,
    )
    if not 0 <= arguments.step_seconds < math.inf:
        raise LoadtestError(f"--step-seconds is {arguments.step_seconds:g}, expected seconds, 0 or more")
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []

    def measured(rate_per_s: float) -> Any:
        seconds = step_s(slos, rate_per_s, settings.precision, arguments.step_seconds)
        folder = out / f"step-{len(runs) + 1:02d}"
        print(f"{folder.name}: {number(rate_per_s)} requests per second for {seconds:.0f} s", flush=True)
        runs.append(load(rate_per_s, seconds, folder))
        step = judged(runs[-1], slos, rate_per_s)
        print(f"   {'held' if step.held else step.reason}", flush=True)
        return step

    def keep(capacity: Capacity) -> None:
        save_capacity(out / CAPACITY, capacity)
        write_capacity_report(out, capacity, slos, runs[-1].settings)

    found = search(measured, settings, keep)
    print(f"{found.sentence}\nwrote {out / PAGE}")
    return 0 if found.rate_per_s is not None and not found.generator_bound else 1


def run_on_target(arguments: argparse.Namespace) -> int:
    """Search on the server that the options name and return the exit code of `run`; raises LoadtestError."""
    workload = load_workload(arguments.workload)
    with ExitStack() as stack:
        target = stack.enter_context(target_of(arguments))
        limit = generator_limit(arguments, target, workload)

        def load(rate_per_s: float, seconds: float, folder: Path) -> Run:
            profile = Profile(name="step", rate=rate_per_s, stages=(Stage(name="step", duration_s=seconds),))
            return run_load(target, profile, workload, folder, workers=arguments.workers, limit=limit)

        return run(arguments, load)
