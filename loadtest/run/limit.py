"""The load generator's own limit: the rate that it reaches with a server that answers at once."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from deploy.local.process import piped
from loadtest.load.plan import Plan, new_nonce
from loadtest.load.profiles import Profile, Stage
from loadtest.load.workload import Workload
from loadtest.run import parts
from loadtest.run.one import PARTS, Watch

CALIBRATION_USERS, CALIBRATION_S, CALIBRATION_WARM_UP_S = 16, 3.0, 0.5


def measure_limit(workload: Workload, *, tags: int, workers: int = 1) -> float:
    """Measure the highest rate, in requests per second, that the generators can send.

    Each worker gets its own server with canned answers on the same cores, so on few cores the result is too low.
    """
    stage = Stage(name="calibration", duration_s=CALIBRATION_S)
    profile = Profile(users=CALIBRATION_USERS * workers, stages=(stage,))
    with tempfile.TemporaryDirectory(prefix="altreco-loadtest-") as name, _canned_servers(tags, workers) as url:
        folder = Path(name)
        plan = Plan(profile=profile, workload=workload, url=url, nonce=new_nonce(), workers=workers)
        (folder / PARTS).mkdir()
        Watch(profile, folder / PARTS, lambda _: None).follow(plan, folder)
        records = parts.collect(folder / PARTS, profile)
    ended_s = records.ended_s[records.error < 0]
    counted = np.count_nonzero((ended_s > CALIBRATION_WARM_UP_S) & (ended_s <= CALIBRATION_S))
    return float(counted / (CALIBRATION_S - CALIBRATION_WARM_UP_S))


@contextmanager
def _canned_servers(tags: int, count: int) -> Iterator[str]:
    """Run servers with canned answers, and give one address for all."""
    command = [sys.executable, "-m", "loadtest.run.canned", str(tags)]
    with ExitStack() as stack:
        servers = [stack.enter_context(piped(command)) for _ in range(count)]
        ports = [server.stdout.readline().decode().strip() for server in servers if server.stdout]
        yield "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
