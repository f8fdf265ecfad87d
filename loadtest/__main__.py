"""Load tests for Triton: send load, judge it, compare runs, and search for the capacity and the best settings.

See `python -m loadtest COMMAND --help`.
"""

import argparse
import signal
import sys

from altreco_client.cli.pipe import quiet_pipe
from altreco_client.text import printable_lines

from deploy.local import ServerError
from loadtest.commands import capacity as capacity_command
from loadtest.commands import report as report_command
from loadtest.commands import run as run_command
from loadtest.commands import sweep as sweep_command
from loadtest.commands import worker as worker_command
from loadtest.errors import LoadtestError


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code, or 2 with the reason on stderr."""
    # SIGTERM from a pipeline ends a run as Ctrl-C does. A shell may have started us with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run_command.add_parser(commands).set_defaults(run=run_command.run)
    worker_command.add_parser(commands).set_defaults(run=worker_command.run)
    capacity_command.add_parser(commands).set_defaults(run=capacity_command.run_on_target)
    sweep_command.add_parser(commands).set_defaults(run=sweep_command.run)
    report_command.add_report_parser(commands).set_defaults(run=report_command.report)
    report_command.add_baseline_parser(commands).set_defaults(run=report_command.baseline)
    try:
        with quiet_pipe():
            given = parser.parse_args(arguments)
            return int(given.run(given))
    except (LoadtestError, ServerError, OSError) as error:
        print(f"error: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
