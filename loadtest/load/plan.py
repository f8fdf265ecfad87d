"""What a process of the load is to do. It comes in an environment variable: Locust runs a file, and not a function."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from altreco_client import contract

from deploy.access import PLAIN, Access
from loadtest.load.profiles import Profile
from loadtest.load.workload import DEFAULT, Workload, load_workload
from loadtest.parse import parse

VARIABLE = "ALTRECO_LOADTEST"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Without `part`, a process makes no requests itself: Locust's master."""

    profile: Profile | None
    """None: as many users as Locust is told to start, without think time."""
    workload: Workload
    url: str
    access: Access = PLAIN
    model: str = contract.TAG_RECOMMENDER.name
    nonce: int
    """The run's number, part of every picture."""
    workers: int = 1
    number: int = 0
    """Of this process, below `workers`."""
    part: str | None = None
    """Where its records go; the suffixes are added."""

    def environment(self) -> dict[str, str]:
        """Of the process that shall follow it."""
        return {**os.environ, VARIABLE: json.dumps(asdict(self))}

    def for_worker(self, number: int, folder: Path) -> "Plan":
        """Its part of the load, with records in `folder`."""
        return replace(self, number=number, part=str(folder / f"part-{number}"))


def new_nonce() -> int:
    """Of a run: another than any other's."""
    return secrets.randbits(62)


def read_plan(environment: Mapping[str, str]) -> Plan | None:
    """That of this process; None: Locust was started by hand."""
    if VARIABLE not in environment:
        return None
    return parse(Plan, json.loads(environment[VARIABLE]), file=VARIABLE)


def default_plan(url: str) -> Plan:
    """Where Locust was started by hand: its own options say how many users, and it keeps what it counts itself."""
    return Plan(profile=None, workload=load_workload(DEFAULT), url=url, nonce=new_nonce())
