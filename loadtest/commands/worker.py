"""Send a share of the load of a `python -m loadtest run --workers N --bind HOST:PORT` on another machine.

Start one on each machine, with the access to the server that this machine has: the master sends no keys. It takes part
in one run. The exit code is 0 if all its records were sent, otherwise 2, or 130 after Ctrl-C.
"""

import argparse
import os
import sys
from typing import Any, NoReturn

from altreco_client import InvalidRequest
from altreco_client.cli import connection

from deploy.access import access_of
from loadtest.commands.target import host_and_port
from loadtest.errors import LoadtestError
from loadtest.load.plan import Joining


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the `worker` command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "worker",
        help="send a share of the load of a `run` on another machine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--master", type=host_and_port, required=True, metavar="HOST:PORT", help="the address of that run's --bind"
    )
    connection.add_options(parser.add_argument_group("server security"))
    parser.set_defaults(admin_key_file=None)
    return parser


def run(arguments: argparse.Namespace) -> NoReturn:
    """Become the worker: a new process, in which Locust comes first. Raises LoadtestError."""
    try:
        joining = Joining(master=arguments.master, access=access_of(arguments))
    except InvalidRequest as error:
        raise LoadtestError(str(error)) from error
    os.execve(sys.executable, [sys.executable, "-m", "loadtest.run.worker"], joining.environment())
