"""The Locust file of `python -m loadtest run`. It also works on its own:

    locust -f loadtest/locustfile.py --headless --host localhost:8001 --users 4 --run-time 30s

sends a closed load of the default workload without think time. The exit code is 1 if a request failed.
"""

import os
import sys
from typing import Any

from locust import events  # first: Locust patches the standard library for gevent

from grpc.experimental import gevent as grpc_gevent  # isort: skip

grpc_gevent.init_gevent()  # after the patching; otherwise the run hangs

from altreco_client import AltrecoError  # noqa: E402
from locust.env import Environment  # noqa: E402

from loadtest.errors import LoadtestError  # noqa: E402
from loadtest.load.plan import Plan, default_plan, read_plan  # noqa: E402
from loadtest.run import users  # noqa: E402


@events.quit.add_listener
def end(exit_code: int, **_: Any) -> None:
    """Exit at once: gRPC's gevent threads would keep the process alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def prepare(plan: Plan) -> None:
    """Connect and make the payloads before the load starts; exit with code 2 if that fails."""
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
