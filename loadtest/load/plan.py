"""The plan of a generator process, passed in an environment variable because Locust runs a file."""

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
    """Work of one process. Without `part` it sends no requests itself: Locust's master."""

    profile: Profile | None
    """None: as many users as Locust's options say, without think time."""
    workload: Workload
    url: str
    access: Access = PLAIN
    model: str = contract.TAG_RECOMMENDER.name
    nonce: int
    """Random number of the run, part of every picture."""
    workers: int = 1
    number: int = 0
    """Number of this process, below `workers`."""
    part: str | None = None
    """Path of its records without suffix."""

    def environment(self) -> dict[str, str]:
        """Return the environment variables for the process that follows this plan."""
        return {**os.environ, VARIABLE: json.dumps(asdict(self))}

    def for_worker(self, number: int, folder: Path) -> "Plan":
        """Make the plan of one worker, with records in `folder`."""
        return replace(self, number=number, part=str(folder / f"part-{number}"))


def new_nonce() -> int:
    """Draw a random number that makes the pictures of a run unique."""
    return secrets.randbits(62)


def read_plan(environment: Mapping[str, str]) -> Plan | None:
    """Read the plan of this process; None if Locust was started by hand."""
    if VARIABLE not in environment:
        return None
    return parse(Plan, json.loads(environment[VARIABLE]), file=VARIABLE)


def default_plan(url: str) -> Plan:
    """Make the plan for Locust started by hand, whose own options set the number of users."""
    return Plan(profile=None, workload=load_workload(DEFAULT), url=url, nonce=new_nonce())
