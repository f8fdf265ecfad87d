"""One run: generators ask, Triton's statistics are sampled, and all of it ends in a folder, however the run ends."""

import datetime
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from altreco_client import AltrecoError, contract

from deploy.access import PLAIN, Access
from deploy.local.process import piped
from loadtest import parts
from loadtest.environment import environment, server_config
from loadtest.errors import LoadtestError
from loadtest.generators import Generators, Usage, generating
from loadtest.plan import Plan, new_nonce
from loadtest.profiles import Profile, Stage
from loadtest.records import (
    OPINION_FILE,
    RECORDS_FILE,
    RUN_FILE,
    SERVER_FILE,
    Generator,
    Run,
    RunSettings,
    load_run,
    save_records,
    save_settings,
)
from loadtest.sampler import Sample, sampling, save_samples
from loadtest.workload import Workload

PARTS = "parts"
EVERY_S = 1.0
DEAD_S = 30.0
"""Without an answer, while requests fail: then the server is given up."""
START_S = 60.0
CALIBRATION_USERS, CALIBRATION_S, CALIBRATION_WARM_UP_S = 16, 3.0, 0.5
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server, or replicas of it: gRPC, and where they are known metrics, and its process on this machine."""

    url: str
    access: Access = PLAIN
    metrics_urls: Sequence[str] = ()
    pid: int | None = None
    model: str = contract.TAG_RECOMMENDER.name


def vocabulary_size(target: Target) -> int:
    """N; raises LoadtestError for a server that is not there or serves something else."""
    try:
        with target.access.recommender(target.url, model_name=target.model, deadline_s=START_S) as recommender:
            return len(recommender.vocabulary)
    except AltrecoError as error:
        raise LoadtestError(str(error)) from error


def run_load(
    target: Target,
    profile: Profile,
    workload: Workload,
    folder: Path,
    *,
    workers: int = 1,
    limit: float | None = None,
    say: Say = lambda _: None,
) -> Run:
    """Make a run and read its folder; `limit` is what `measure_limit` found, `say` is told every second how it goes.

    Raises LoadtestError for a run that could not be made, and KeyboardInterrupt for one that was stopped; what was
    recorded until then is in the folder.
    """
    vocabulary_size(target)
    plan = Plan(
        profile=profile,
        workload=workload,
        url=target.url,
        access=target.access,
        model=target.model,
        nonce=new_nonce(),
        workers=workers,
    )
    started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    settings = RunSettings(
        profile=profile,
        workload=workload,
        url=target.url,
        started=started,
        environment=environment(),
        server_config=server_config(target.url, target.model, target.access),
        duration_s=profile.duration_s,
        ended_early=None,
        generator=Generator(load=profile.load, workers=workers, limit_requests_per_s=limit, cpu_share=()),
    )
    _empty(folder)
    watch = Watch(profile, folder / PARTS, say)
    samples: list[Sample] = []
    sampled_from = time.monotonic()
    try:
        with sampling(target.url, target.metrics_urls, target.pid, access=target.access, every_s=EVERY_S) as samples:
            watch.follow(plan, folder)
    finally:
        if watch.started is not None:
            late_s = sampled_from - watch.started
            save_samples(folder / SERVER_FILE, [{**sample, "t_s": sample["t_s"] + late_s} for sample in samples])
            _keep(folder, watch, settings)
    return load_run(folder)


def measure_limit(workload: Workload, *, tags: int, workers: int = 1) -> float:
    """Requests a second that the generators can send at most: to servers that answer at once, over the same network.

    One such server for each worker, on the same cores: where these are few, the limit is rather too low.
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


class Watch:
    """Looks after the generators every second."""

    def __init__(self, profile: Profile, folder: Path, say: Say) -> None:
        """`folder` is that of their parts."""
        self.profile, self.folder = profile, folder
        self.cpu_share: list[tuple[float, float]] = []
        self.ended_early: str | None = None
        self._say, self._tail = say, parts.Tail(folder)
        self._requests = self._errors = 0
        self._answered = time.monotonic()

    @property
    def started(self) -> float | None:
        """When the load began, on the machine's monotonic clock."""
        return parts.started(self.folder)

    def follow(self, plan: Plan, folder: Path) -> None:
        """Until the end; raises LoadtestError, and KeyboardInterrupt after it has ended the run."""
        with generating(plan, folder, self.folder) as generators:
            try:
                self._watch(generators)
            except KeyboardInterrupt:
                self.ended_early = "it was interrupted"
                print("\nstopping, as soon as the requests under way have ended", file=sys.stderr, flush=True)
                generators.stop()
                raise

    def _watch(self, generators: Generators) -> None:
        usage, latest = Usage(generators), time.monotonic() + START_S + self.profile.duration_s + generators.patience_s
        while not generators.wait(EVERY_S):
            share = usage.busiest()
            if self.started is None:
                self._answered = time.monotonic()
            else:
                self._look(time.monotonic() - self.started, share)
            if time.monotonic() - self._answered > DEAD_S and self._errors:
                self.ended_early = f"nothing was answered for {DEAD_S:g} s"
                return generators.stop()
            if time.monotonic() > latest:
                raise LoadtestError(f"Locust has not ended in time; see {generators.log}")
        return None

    def _look(self, t_s: float, share: float) -> None:
        new = self._tail.new()
        errors = int(np.count_nonzero(new["error"] >= 0))
        self._requests, self._errors = self._requests + len(new), self._errors + errors
        if len(new) > errors or not len(new):
            self._answered = time.monotonic()
        if EVERY_S < t_s <= self.profile.duration_s:  # not of what came before the load
            self.cpu_share.append((t_s, share))
        self._say(
            f"{min(t_s, self.profile.duration_s):.0f} of {self.profile.duration_s:.0f} s: {self._requests:,} requests, "
            f"{self._errors:,} errors, {len(new) / EVERY_S:,.0f} a second"
        )


def _empty(folder: Path) -> None:
    """Make it; what an earlier run left there would be taken for this one's."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    (folder / PARTS).mkdir(parents=True)
    for name in (RUN_FILE, RECORDS_FILE, SERVER_FILE, OPINION_FILE):
        (folder / name).unlink(missing_ok=True)


def _keep(folder: Path, watch: Watch, settings: RunSettings) -> None:
    """Write records and settings, which come last: a folder with them is whole."""
    records, duration_s = parts.collect(watch.folder, settings.profile), settings.duration_s
    if watch.ended_early and len(records):
        duration_s = min(duration_s, float(records.ended_s.max()))
    save_records(folder / RECORDS_FILE, records)
    generator = replace(
        settings.generator, cpu_share=tuple(watch.cpu_share), bound_reached=parts.bound_reached(watch.folder)
    )
    ended = replace(settings, duration_s=duration_s, ended_early=watch.ended_early, generator=generator)
    save_settings(folder / RUN_FILE, ended)
    shutil.rmtree(watch.folder)


@contextmanager
def _canned_servers(tags: int, count: int) -> Iterator[str]:
    """An address for all of them."""
    command = [sys.executable, "-m", "loadtest.canned", str(tags)]
    with ExitStack() as stack:
        servers = [stack.enter_context(piped(command, cwd=Path(__file__).parents[1])) for _ in range(count)]
        ports = [server.stdout.readline().decode().strip() for server in servers if server.stdout]
        yield "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
