"""Load tests: make load, judge it, compare it, search for capacity and settings.

`python -m loadtest COMMAND --help` says more.
"""

import argparse
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from deploy.local import ServerError
from loadtest import capacity_command, report_command, run_command, sweep_command
from loadtest.errors import LoadtestError
from loadtest.profiles import Profile, Stage
from loadtest.records import Run
from loadtest.run import measure_limit, run_load, vocabulary_size
from loadtest.target import add_load_options, target_of
from loadtest.workload import load_workload


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit code, or 2 with the reason on stderr."""
    # A pipeline's SIGTERM takes the same way out as Ctrl-C, also where a shell started us with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run_command.add_parser(commands).set_defaults(run=run_command.run)
    capacity = capacity_command.add_parser(commands)
    add_load_options(capacity)
    capacity.set_defaults(run=_capacity)
    sweep_command.add_parser(commands).set_defaults(run=sweep_command.run)
    report_command.add_report_parser(commands).set_defaults(run=report_command.report)
    report_command.add_baseline_parser(commands).set_defaults(run=report_command.baseline)
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except (LoadtestError, ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _capacity(arguments: argparse.Namespace) -> int:
    workload = load_workload(arguments.workload)
    with ExitStack() as stack:
        target = stack.enter_context(target_of(arguments))
        tags, workers = vocabulary_size(target), arguments.workers
        limit = None if arguments.no_calibration else measure_limit(workload, tags=tags, workers=workers)

        def load(rate_per_s: float, seconds: float, folder: Path) -> Run:
            profile = Profile(name="step", rate=rate_per_s, stages=(Stage(name="step", duration_s=seconds),))
            return run_load(target, profile, workload, folder, workers=workers, limit=limit)

        return capacity_command.run(arguments, load)


if __name__ == "__main__":
    sys.exit(main())
