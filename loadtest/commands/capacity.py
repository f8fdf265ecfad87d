"""The command that searches for capacity, and its picture and page: `python -m loadtest capacity`."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtest.capacity.report import PAGE, write_capacity_report
from loadtest.capacity.search import Capacity, Search, judged, save_capacity, search, step_s
from loadtest.commands.target import add_load_options, target_of
from loadtest.judge.slo import load_slos
from loadtest.load.profiles import Profile, Stage
from loadtest.load.workload import load_workload
from loadtest.records import Run
from loadtest.run.limit import measure_limit
from loadtest.run.one import run_load, vocabulary_size
from measure.markdown import number

CAPACITY = "capacity.json"
DEFAULTS = Search()

Load = Callable[[float, float, Path], Run]
"""Open load at a rate (requests a second) for so many seconds, written to a folder; raises LoadtestError."""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `capacity` to the subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "capacity", help="the highest rate that holds the SLOs", description=__doc__
    )
    option = parser.add_argument
    option("--slos", type=Path, required=True, help="TOML; its throughput is not asked for")
    option("--out", type=Path, default=Path("build/loadtest/capacity"), help="folder (%(default)s)")
    option("--start", type=float, default=DEFAULTS.start_per_s, metavar="RATE", help="requests a second (%(default)g)")
    option("--most", type=float, default=DEFAULTS.most_per_s, metavar="RATE", help="never above it (%(default)g)")
    option("--growth", type=float, default=DEFAULTS.growth, metavar="FACTOR", help="of a step (%(default)g)")
    option("--precision", type=float, default=DEFAULTS.precision, metavar="SHARE", help="of the rate (%(default)g)")
    option("--repeats", type=int, default=DEFAULTS.repeats, help="at the border, an odd number (%(default)s)")
    option("--step-seconds", type=float, default=15, metavar="S", help="at least; the SLOs may need more (%(default)g)")
    add_load_options(parser)
    return parser


def run(arguments: argparse.Namespace, load: Load) -> int:
    """Search, and keep every step; 0, or 1 where no rate holds or the generator was the limit. Raises LoadtestError."""
    slos = load_slos(arguments.slos)
    settings = Search(
        start_per_s=arguments.start,
        most_per_s=arguments.most,
        growth=arguments.growth,
        precision=arguments.precision,
        repeats=arguments.repeats,
    )
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []

    def measured(rate_per_s: float) -> Any:
        seconds = step_s(slos, rate_per_s, settings.precision, arguments.step_seconds)
        folder = out / f"step-{len(runs) + 1:02d}"
        print(f"{folder.name}: {number(rate_per_s)} requests a second for {seconds:.0f} s", flush=True)
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
    """Search on the server that the options name; the exit code of `run`. Raises LoadtestError."""
    workload = load_workload(arguments.workload)
    with ExitStack() as stack:
        target = stack.enter_context(target_of(arguments))
        tags, workers = vocabulary_size(target), arguments.workers
        limit = None if arguments.no_calibration else measure_limit(workload, tags=tags, workers=workers)

        def load(rate_per_s: float, seconds: float, folder: Path) -> Run:
            profile = Profile(name="step", rate=rate_per_s, stages=(Stage(name="step", duration_s=seconds),))
            return run_load(target, profile, workload, folder, workers=workers, limit=limit)

        return run(arguments, load)
