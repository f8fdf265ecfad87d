"""The Locust file of `python -m loadtest run`. It also works on its own:

    locust -f loadtest/locustfile.py --headless --host localhost:8001 --users 4 --run-time 30s

sends a closed load of the default workload without think time. The exit code is 1 if a request failed. Without
`--headless`, the host is the one in Locust's page.
"""

import os
import sys
from typing import Any, NoReturn

from locust import events  # first: Locust patches the standard library for gevent

from grpc.experimental import gevent as grpc_gevent  # isort: skip

grpc_gevent.init_gevent()  # after the patching; otherwise the run hangs

import gevent  # noqa: E402
from altreco_client import AltrecoError  # noqa: E402
from locust.env import Environment  # noqa: E402
from locust.exception import StopTest  # noqa: E402
from locust.runners import LocalRunner, MasterRunner  # noqa: E402

from loadtest.errors import LoadtestError, fail  # noqa: E402
from loadtest.load.plan import Plan, default_plan, read_plan  # noqa: E402
from loadtest.run import users  # noqa: E402


def end(exit_code: int, **_: Any) -> NoReturn:
    """Exit at once: gRPC's gevent threads would keep the process alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


events.quit.add_listener(end)
gevent.get_hub().NOT_ERROR += (StopTest,)  # Locust reports it in a line, and gevent would print a traceback as well


def sender_of(plan: Plan, environment: Environment | None = None) -> users.Sender:
    """Connect and make the payloads. If that fails, Locust's page stops the load, other processes exit with 2."""
    try:
        return users.Sender(plan)
    except (AltrecoError, LoadtestError) as error:
        if environment is not None and environment.web_ui is not None:
            raise StopTest(error) from error
        fail(str(error))


given = read_plan(os.environ)
Uploader = users.user_class(given)
Shape = users.shape_class(given)
if given is not None and given.part:
    Uploader.sender = sender_of(given)  # before the load


def connect(environment: Environment) -> None:
    """Take the host that Locust shows. A master tells it its workers."""
    if begun := getattr(Uploader, "sender", None):
        begun.client.close()
    Uploader.sender = sender_of(default_plan(environment.host or Uploader.host or users.HOST), environment)


def is_headless(environment: Environment) -> bool:
    """Whether the host is known before the load, so that the set-up takes none of its time."""
    return environment.web_ui is None and isinstance(environment.runner, LocalRunner)


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Connect early, if started by hand for one load."""
    if given is None and is_headless(environment):
        connect(environment)


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Begin a load. A master sends nothing."""
    if given is None and not is_headless(environment) and not isinstance(environment.runner, MasterRunner):
        connect(environment)
    if hasattr(Uploader, "sender"):
        Uploader.sender.begin()
