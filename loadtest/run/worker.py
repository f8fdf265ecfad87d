"""A worker of a load from several machines. `python -m loadtest worker` becomes this module.

It is Locust's worker as to connection, heartbeats and users. Plan, clock and records are messages of its own: see
`loadtest.run.master`.
"""

import json
import os
import signal
import socket
import time
from dataclasses import replace
from typing import Any, NoReturn

from locust.env import Environment  # first: Locust patches the standard library for gevent

from grpc.experimental import gevent as grpc_gevent  # isort: skip

grpc_gevent.init_gevent()  # after the patching; otherwise the run hangs

import gevent  # noqa: E402
import psutil  # noqa: E402
from altreco_client import AltrecoError  # noqa: E402
from locust.runners import MASTER_HEARTBEAT_TIMEOUT, STATE_CLEANUP, STATE_STOPPED  # noqa: E402

from loadtest.errors import LoadtestError, fail  # noqa: E402
from loadtest.load.plan import JOINING, Joining, Plan  # noqa: E402
from loadtest.parse import parse  # noqa: E402
from loadtest.run.parts import Outbox  # noqa: E402
from loadtest.run.server_config import same_everywhere  # noqa: E402
from loadtest.run.users import Sender, user_class  # noqa: E402

EVERY_S = 1.0
LOOKS = 10
"""How often in that time the worker looks whether it was stopped."""
LOOK_S = EVERY_S / LOOKS
FLUSH_MS = 5000


class Worker:
    """The worker's answers to the master's messages."""

    def __init__(self, joining: Joining) -> None:
        """Connect to the master, for up to five minutes, and ask for the plan. Raises ConnectionError."""
        host, _, port = joining.master.rpartition(":")
        self._access, self._outbox, self._sent = joining.access, Outbox(), 0
        self._sender: Sender | None = None
        self._reporting: gevent.Greenlet | None = None
        self._began_late_ms = self._pause_ms = self._looked_s = 0.0
        self.problem: str | None = None
        """Why the worker could not prepare."""
        self.ended = False
        """Whether its last records are on their way."""
        self.environment = Environment()
        self.environment.events.test_stop.add_listener(self._end)
        self.runner = self.environment.create_worker_runner(host, int(port))
        for name, answer in (("plan", self._on_plan), ("clock", self._on_clock), ("begin", self._on_begin)):
            self.runner.register_message(name, answer, concurrent=name != "clock")
        asked = {"host": socket.gethostname(), "process": os.getpid(), "versions": same_everywhere()}
        self.runner.send_message("plan", asked)

    @property
    def lost(self) -> bool:
        """Whether the master has not been heard of for so long that Locust gave up."""
        heard = self.runner.last_heartbeat_timestamp
        return heard is None or time.time() - heard > MASTER_HEARTBEAT_TIMEOUT - EVERY_S

    def close(self) -> None:
        """Wait until the last messages have left."""
        context = self.runner.client.socket.context
        self.runner.client.close(linger=FLUSH_MS)
        context.term()

    def _on_plan(self, msg: Any, **_: Any) -> None:
        if reason := msg.data.get("refused"):
            fail(f"the master refuses this worker: {reason}")
        try:
            given = parse(Plan, json.loads(msg.data["plan"]), file="the master's plan")
            self._sender = Sender(replace(given, access=self._access))
        except (AltrecoError, LoadtestError) as error:
            self.problem = str(error)
        else:
            self.environment.stop_timeout = given.patience_s
            users = user_class(given)
            users.sender = self._sender
            self.environment.user_classes.append(users)
        self.runner.send_message("prepared", {"problem": self.problem})

    def _on_clock(self, **_: Any) -> None:
        self.runner.send_message("clock", {"at_s": time.monotonic()})

    def _on_begin(self, msg: Any, **_: Any) -> None:
        """Send load from the time given, on this machine's monotonic clock, to the end of the plan."""
        assert self._sender is not None
        self._looked_s = time.monotonic()
        sender, (users,) = self._sender, self.environment.user_classes
        sender.begin_at(msg.data["at_s"], self._outbox.append)
        self._began_late_ms = max(0.0, sender.now_s() * 1000)
        self._reporting = gevent.spawn(self._report)
        self._reporting.link_exception(lambda _: fail("the records cannot be sent to the master"))
        while self.runner.state not in (STATE_CLEANUP, STATE_STOPPED):
            if (count := sender.plan.users(sender.now_s())) is None:
                self.runner.stop()
                return
            self.runner.start_worker({users.__name__: count})
            gevent.sleep(EVERY_S)

    def _report(self) -> None:
        process = psutil.Process()
        process.cpu_percent()
        psutil.cpu_percent()
        while True:
            for _ in range(LOOKS):
                gevent.sleep(LOOK_S)
                self._look()
            self._send(cpu_share=process.cpu_percent() / 100, machine_share=psutil.cpu_percent() / 100)

    def _look(self) -> None:
        """Update the longest pause. All time since the last look counts, also what was spent outside the sleep."""
        now_s = time.monotonic()
        self._pause_ms = max(self._pause_ms, (now_s - self._looked_s - LOOK_S) * 1000)
        self._looked_s = now_s

    def _end(self, **_: Any) -> None:
        """Send the last records, once no user is left."""
        if self._reporting is not None:
            self._reporting.kill()
            self._reporting = None
            self._look()
            self._send(last=True)
            self.ended = True

    def _send(self, *, last: bool = False, **used: float) -> None:
        blocks = self._outbox.take()
        for i, files in enumerate(blocks):
            state = {"began_late_ms": self._began_late_ms, "pause_ms": self._pause_ms, **used}
            ended = last and i == len(blocks) - 1
            self.runner.send_message("records", {"number": self._sent, "files": files, "last": ended, "state": state})
            self._sent += 1


def main() -> NoReturn:
    """Take part in one run, and end without a return: gRPC's gevent threads would keep the process alive."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container's first process would not get it
    joining = parse(Joining, json.loads(os.environ[JOINING]), file=JOINING)
    try:
        worker = Worker(joining)
        worker.runner.greenlet.join()
    except ConnectionError:
        fail(f"there is no master at {joining.master}: is `python -m loadtest run --bind` running, and its port open?")
    except KeyboardInterrupt:
        os._exit(130)
    if worker.problem is not None:
        fail(worker.problem)
    if worker.lost:
        fail(f"the master at {joining.master} has not answered for {MASTER_HEARTBEAT_TIMEOUT} s")
    if not worker.ended:
        fail(f"the master at {joining.master} ended the run before its begin")
    worker.close()
    os._exit(0)


if __name__ == "__main__":
    main()
