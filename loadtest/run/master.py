"""The master of a load from several machines, as a process of `python -m loadtest run --bind`.

Locust carries the messages and watches heartbeats. The messages are:

- `plan`: a worker says who it is; the answer is its plan, or why it is refused
- `prepared`: it has its pictures and histories, or says what the problem is
- `clock`: its monotonic clock
- `begin`: the time of the begin, on its clock
- `records`: its records since the last such message, about once a second

The records become the files that a process of this machine would have written (`loadtest.run.parts`).
"""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from locust.env import Environment  # first: Locust patches the standard library for gevent

import gevent  # isort: skip
from gevent.event import AsyncResult  # isort: skip
from altreco_client.text import message
from locust.exception import RPCError
from locust.runners import STATE_MISSING

from deploy.access import PLAIN
from loadtest.errors import fail
from loadtest.load.plan import Plan, read_plan
from loadtest.records import Worker
from loadtest.run.members import Exchange, Member, clock_of
from loadtest.run.parts import NO_RECORDS
from loadtest.run.server_config import same_everywhere

PREPARE_S = 60.0
EXCHANGES = 20
ANSWER_S = 5.0
END_S = 15.0
"""Time for the last records, after the deadline of the last requests."""
LEAD_S = 1.0
"""Time from the last message before the load to its begin."""


class Master:
    """The master, from the first worker's arrival to the last one's records."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        """Listen for workers, whose files will be in `folder`."""
        assert plan.bind is not None
        assert plan.profile is not None
        self._plan, self._profile, self._folder = plan, plan.profile, folder
        self._versions = same_everywhere()
        self._members: dict[str, Member] = {}
        self._answers: dict[str, AsyncResult] = {}
        self._refused: list[str] = []
        self._interrupted = False
        host, _, port = plan.bind.rpartition(":")
        try:
            self._runner = Environment().create_master_runner(host, int(port))
        except (RPCError, SystemExit):
            fail(f"cannot listen for workers on {plan.bind}: is it an address of this machine, and unused?")
        for name in ("plan", "prepared", "clock", "records"):
            self._runner.register_message(name, getattr(self, f"_on_{name}"))
        gevent.signal_handler(signal.SIGINT, self._interrupt)

    def run(self) -> None:
        """Gather the workers, begin together, and collect their records to the end."""
        plan = self._plan
        if not self._until(lambda: len(self._members) == plan.workers, plan.wait_s):
            came = ", ".join(member.worker.name for member in self._in_order()) or "none"
            refused = f"; refused: {'; '.join(self._refused)}" if self._refused else ""
            expected = f"expected {plan.workers} workers within {plan.wait_s:g} s"
            self._give_up(f"{expected}, but {len(self._members)} came ({came}){refused}")
        if not self._until(lambda: all(member.prepared for member in self._in_order()), PREPARE_S):
            slow = ", ".join(member.worker.name for member in self._in_order() if not member.prepared)
            self._give_up(f"not prepared within {PREPARE_S:g} s: {slow}")
        for member in self._in_order():
            offset_s, round_trip_s = clock_of(self._exchanges(member))
            member.worker = replace(member.worker, clock_s=offset_s, round_trip_ms=round_trip_s * 1000)
        begin_s = time.monotonic() + LEAD_S
        for member in self._in_order():
            member.begin(self._folder / f"part-{member.worker.number}", begin_s)
            self._runner.send_message("begin", {"at_s": begin_s + member.worker.clock_s}, member.client_id)
        self._until(self._over, LEAD_S + self._profile.duration_s + plan.patience_s + END_S, interruptible=False)
        self._runner.quit()

    def _in_order(self) -> list[Member]:
        return list(self._members.values())

    def _over(self) -> bool:
        return all(member.worker.ended or self._gone(member) for member in self._in_order())

    def _gone(self, member: Member) -> bool:
        """Whether Locust has had no heartbeat for three seconds."""
        node = self._runner.clients.get(member.client_id)
        return node is None or node.state == STATE_MISSING

    def _until(self, condition: Callable[[], bool], seconds: float, *, interruptible: bool = True) -> bool:
        latest = time.monotonic() + seconds
        while not condition():
            if interruptible and self._interrupted:
                self._give_up("interrupted")
            if time.monotonic() > latest:
                return False
            gevent.sleep(0.02)
        return True

    def _exchanges(self, member: Member) -> list[Exchange]:
        exchanges: list[Exchange] = []
        for _ in range(EXCHANGES):
            answer = self._answers[member.client_id] = AsyncResult()
            sent_s = time.monotonic()
            self._runner.send_message("clock", None, member.client_id)
            try:
                at_s, received_s = answer.get(timeout=ANSWER_S)
            except gevent.Timeout:
                self._give_up(f"{member.worker.name} did not tell its clock within {ANSWER_S:g} s")
            exchanges.append((sent_s, at_s, received_s))
        return exchanges

    def _plan_of(self, number: int) -> str:
        """Return the plan of a worker as JSON, without what is this machine's alone."""
        return json.dumps(asdict(replace(self._plan, number=number, access=PLAIN, bind=None)))

    def _on_plan(self, msg: Any, **_: Any) -> None:
        host, process = re.sub(r"[^\w.-]", "_", str(msg.data["host"]))[:64], int(msg.data["process"])
        if reason := self._reason_against(msg.data["versions"]):
            self._refused.append(message(f"{host}, process {process}: {reason}"))
            print(f"refused {self._refused[-1]}", flush=True)
            self._runner.send_message("plan", {"refused": reason}, msg.node_id)
            return
        number = len(self._members)
        planned = None if self._profile.users else len(replace(self._plan, number=number).arrivals())
        worker = Worker(number=number, host=host, process=process, planned=planned)
        self._members[msg.node_id] = Member(msg.node_id, worker)
        self._runner.send_message("plan", {"plan": self._plan_of(number)}, msg.node_id)

    def _reason_against(self, versions: dict[str, str]) -> str | None:
        if len(self._members) == self._plan.workers:
            return f"the run has its {self._plan.workers} workers already"
        differing = [name for name, version in self._versions.items() if versions.get(name) != version]
        if not differing:
            return None
        return "; ".join(f"it has {name} {versions.get(name)}, expected {self._versions[name]}" for name in differing)

    def _on_prepared(self, msg: Any, **_: Any) -> None:
        member = self._members[msg.node_id]
        if problem := msg.data["problem"]:
            gevent.spawn(self._give_up, f"{member.worker.name}: {problem}")
        member.prepared = not problem

    def _on_clock(self, msg: Any, **_: Any) -> None:
        self._answers[msg.node_id].set((float(msg.data["at_s"]), time.monotonic()))

    def _on_records(self, msg: Any, **_: Any) -> None:
        try:
            self._members[msg.node_id].take(msg.data)
        except OSError:
            os._exit(NO_RECORDS)

    def _interrupt(self) -> None:
        self._interrupted = True
        for member in self._in_order():
            self._runner.send_message("quit", None, member.client_id)

    def _give_up(self, reason: str) -> NoReturn:
        self._runner.quit()
        fail(reason)


def main() -> NoReturn:
    """Run the plan of the environment, with files in the folder that is the only argument."""
    plan = read_plan(os.environ)
    assert plan is not None
    Master(plan, Path(sys.argv[1])).run()
    os._exit(0)


if __name__ == "__main__":
    main()
