"""The plan of a generator process, passed in an environment variable because Locust runs a file.

Several processes send the requests that one would send, at the same times: each takes every `workers`-th of them.
"""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from altreco_client import contract
from numpy.typing import NDArray

from deploy.access import PLAIN, Access
from loadtest.load.profiles import Profile
from loadtest.load.workload import DEFAULT, Workload, load_workload
from loadtest.parse import parse

VARIABLE, JOINING = "ALTRECO_LOADTEST", "ALTRECO_LOADTEST_WORKER"
SLACK_S = 1.0
"""Time after the end of an open load in which the last requests leave, as workers may begin a little late."""


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
    bind: str | None = None
    """HOST:PORT on which the master waits for workers on other machines; None: all are processes of this one."""
    wait_s: float = 60.0
    """Time for these workers to come."""

    def environment(self) -> dict[str, str]:
        """Return the environment variables for the process that follows this plan."""
        return {**os.environ, VARIABLE: json.dumps(asdict(self))}

    @property
    def patience_s(self) -> float:
        """Time for requests in flight at the end of the load."""
        return self.workload.deadline_s + 3

    def arrivals(self) -> NDArray[np.float64]:
        """Draw the times, in seconds and in order, at which this process's requests of an open load are due."""
        assert self.profile is not None
        return self.profile.arrivals(np.random.default_rng([self.workload.seed, 0, 1]))[self.number :: self.workers]

    def users(self, t_s: float) -> int | None:
        """Compute the number of Locust users that this process runs at a time; None after the end.

        An open load takes one, who sends all requests.
        """
        assert self.profile is not None
        if self.profile.users is None:
            return 1 if t_s <= self.profile.duration_s + SLACK_S else None
        level = self.profile.level(max(0.0, t_s))
        return None if level is None else len(range(self.number, round(self.profile.users * level), self.workers))

    def for_worker(self, number: int, folder: Path) -> "Plan":
        """Make the plan of one worker, with records in `folder`."""
        return replace(self, number=number, part=str(folder / f"part-{number}"))


@dataclass(frozen=True, kw_only=True)
class Joining:
    """What a worker on another machine knows before it has its plan: master and access, which it is never sent."""

    master: str
    """HOST:PORT."""
    access: Access = PLAIN

    def environment(self) -> dict[str, str]:
        """Return the environment variables for the process that joins the master."""
        return {**os.environ, JOINING: json.dumps(asdict(self))}


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
