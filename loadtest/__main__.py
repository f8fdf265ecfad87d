"""Load tests: make load, judge it, compare it, search for capacity and settings.

`python -m loadtest COMMAND --help` says more.
"""

import argparse
import signal
import sys

from altreco_client.cli.pipe import quiet_pipe

from deploy.local import ServerError
from loadtest.commands import capacity as capacity_command
from loadtest.commands import report as report_command
from loadtest.commands import run as run_command
from loadtest.commands import sweep as sweep_command
from loadtest.errors import LoadtestError


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit code, or 2 with the reason on stderr."""
    # A pipeline's SIGTERM takes the same way out as Ctrl-C, also where a shell started us with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run_command.add_parser(commands).set_defaults(run=run_command.run)
    capacity_command.add_parser(commands).set_defaults(run=capacity_command.run_on_target)
    sweep_command.add_parser(commands).set_defaults(run=sweep_command.run)
    report_command.add_report_parser(commands).set_defaults(run=report_command.report)
    report_command.add_baseline_parser(commands).set_defaults(run=report_command.baseline)
    try:
        with quiet_pipe():
            given = parser.parse_args(arguments)
            return int(given.run(given))
    except (LoadtestError, ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
