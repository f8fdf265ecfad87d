"""Load on Triton's gRPC, as Locust runs it: a part of `python -m loadtest run`, which judges what comes out. Alone,

    locust -f loadtest/locustfile.py --headless --host localhost:8001 --users 4 --run-time 30s

is a closed load of the default workload without think time; the exit code is 1 when a request failed.
"""

import os
import sys
from typing import Any

from locust import events  # first: Locust patches the standard library for gevent

from grpc.experimental import gevent as grpc_gevent  # isort: skip

grpc_gevent.init_gevent()  # after the patching: before it, the run hangs

from altreco_client import AltrecoError  # noqa: E402
from locust.env import Environment  # noqa: E402

from loadtest.errors import LoadtestError  # noqa: E402
from loadtest.load.plan import Plan, default_plan, read_plan  # noqa: E402
from loadtest.run import users  # noqa: E402


@events.quit.add_listener
def end(exit_code: int, **_: Any) -> None:
    """End at once: gRPC's gevent threads would keep the process alive for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def prepare(plan: Plan) -> None:
    """Everything that need not happen under load; the process ends where it cannot be had."""
    try:
        Uploader.sender = users.Sender(plan)
    except (AltrecoError, LoadtestError) as error:
        print(f"error: {error}", file=sys.stderr)
        end(2)
    events.test_start.add_listener(lambda **_: Uploader.sender.begin())


given = read_plan(os.environ)
Uploader = users.user_class(given)
Shape = users.shape_class(given)
if given is None:

    @events.init.add_listener
    def _alone(environment: Environment, **_: Any) -> None:
        prepare(default_plan(environment.host or "localhost:8001"))

elif given.part:
    prepare(given)
