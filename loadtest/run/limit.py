"""The load generator's own limit: the rate that it reaches with a server that answers at once.

    python -m loadtest.run.limit

measures it for a process of this machine, and for a worker whose records go to a master, in turns.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from deploy.local.process import free_port, piped, running
from loadtest.errors import LoadtestError
from loadtest.load.plan import Plan, new_nonce
from loadtest.load.profiles import Profile, Stage
from loadtest.load.workload import DEFAULT, Workload, load_workload
from loadtest.run import parts
from loadtest.run.one import PARTS, Watch
from measure.markdown import cell, table

ROUNDS, TAGS = 5, 1000
CALIBRATION_USERS, CALIBRATION_S, CALIBRATION_WARM_UP_S = 16, 3.0, 0.5


def measure_limit(workload: Workload, *, tags: int, workers: int = 1, through_master: bool = False) -> float:
    """Measure the highest rate, in requests per second, that the generators can send; raises LoadtestError if it is 0.

    Each worker gets its own server with canned answers on the same cores, so on few cores the result is too low. With
    `through_master`, the generators are workers as on other machines.
    """
    stage = Stage(name="calibration", duration_s=CALIBRATION_S)
    profile = Profile(users=CALIBRATION_USERS * workers, stages=(stage,))
    with tempfile.TemporaryDirectory(prefix="altreco-loadtest-") as name, _canned_servers(tags, workers) as url:
        folder = Path(name)
        bind = f"127.0.0.1:{free_port()}" if through_master else None
        plan = Plan(profile=profile, workload=workload, url=url, nonce=new_nonce(), workers=workers, bind=bind)
        (folder / PARTS).mkdir()
        with ExitStack() as stack:
            for number in range(workers if bind else 0):
                command = [sys.executable, "-m", "loadtest", "worker", "--master", str(bind)]
                stack.enter_context(running(command, log_path=folder / f"worker-{number}.log", stop_timeout_s=0))
            Watch(profile, folder / PARTS, lambda _: None).follow(plan, folder)
        records = parts.collect(folder / PARTS, profile)
    ended_s = records.ended_s[records.error < 0]
    counted = np.count_nonzero((ended_s > CALIBRATION_WARM_UP_S) & (ended_s <= CALIBRATION_S))
    if not counted:
        raise LoadtestError(
            f"the load generator got no answer in {CALIBRATION_S - CALIBRATION_WARM_UP_S:g} s from a server that "
            "answers at once: other programs use this machine's cores; stop them, or run the load test elsewhere"
        )
    return float(counted / (CALIBRATION_S - CALIBRATION_WARM_UP_S))


@contextmanager
def _canned_servers(tags: int, count: int) -> Iterator[str]:
    """Run servers with canned answers, and give one address for all."""
    command = [sys.executable, "-m", "loadtest.run.canned", str(tags)]
    with ExitStack() as stack:
        servers = [stack.enter_context(piped(command)) for _ in range(count)]
        ports = [server.stdout.readline().decode().strip() for server in servers if server.stdout]
        yield "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)


def main() -> None:
    """Print the requests per second of both, over ROUNDS rounds."""
    argparse.ArgumentParser(prog="python -m loadtest.run.limit", description=__doc__).parse_args()
    workload, rates = load_workload(DEFAULT), {False: list[float](), True: list[float]()}
    for _ in range(ROUNDS):
        for through_master, values in rates.items():
            values.append(measure_limit(workload, tags=TAGS, through_master=through_master))
    lines = [["a process of this machine", cell(rates[False])], ["a worker, its records sent", cell(rates[True])]]
    print("\n".join(table(["", "requests per second, median and range"], lines)))


if __name__ == "__main__":
    main()
