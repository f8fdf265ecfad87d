"""One run: generators send load while Triton is sampled. The folder is written even if the run ends early."""

import datetime
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from altreco_client import AltrecoError, contract

from deploy.access import PLAIN, Access
from loadtest.errors import LoadtestError
from loadtest.load.plan import Plan, new_nonce
from loadtest.load.profiles import Profile
from loadtest.load.workload import Workload
from loadtest.records import (
    FILES,
    RECORDS_FILE,
    RUN_FILE,
    SERVER_FILE,
    Generator,
    Run,
    RunSettings,
    load_run,
    load_settings,
    save_records,
    save_settings,
)
from loadtest.run import parts
from loadtest.run.generators import Generators, Usage, generating
from loadtest.run.sampler import Sample, sampling, save_samples
from loadtest.run.server_config import environment, server_config

PARTS = "parts"
EVERY_S = 1.0
DEAD_S = 30.0
"""The run ends after this time in which requests fail and none is answered."""
START_S = 60.0
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server or several replicas: gRPC address, metrics if known, and its process if it runs on this machine."""

    url: str
    access: Access = PLAIN
    metrics_urls: Sequence[str] = ()
    pid: int | None = None
    model: str = contract.TAG_RECOMMENDER.name


def vocabulary_size(target: Target) -> int:
    """Get the size of the vocabulary; raises LoadtestError if the server does not answer or serves another model."""
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
    bind: str | None = None,
    wait_s: float = Plan.wait_s,
    limit: float | None = None,
    say: Say = lambda _: None,
) -> Run:
    """Make a run and read its folder. `limit` comes from `measure_limit`; `say` gets a line of progress each second.

    With `bind`, HOST:PORT, the workers are those on other machines that come to it within `wait_s` seconds.

    Raises LoadtestError if the run was not possible, and KeyboardInterrupt if it was stopped. The folder then has what
    was recorded so far.
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
        bind=bind,
        wait_s=wait_s,
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
    save_settings(folder / PARTS / RUN_FILE, settings)
    watch = Watch(profile, folder / PARTS, say)
    samples: list[Sample] = []
    sampled_from = time.monotonic()
    try:
        with sampling(target.url, target.metrics_urls, target.pid, access=target.access, every_s=EVERY_S) as samples:
            watch.follow(plan, folder)
    finally:
        if watch.started is not None:
            late_s = sampled_from - watch.started
            samples = [{**sample, "t_s": sample["t_s"] + late_s} for sample in samples]
            _write(folder, watch.ended(settings), samples)
            shutil.rmtree(watch.folder)
    return load_run(folder)


def finished_run(folder: Path) -> Run:
    """Read a run. One that was killed or not written is first collected from what the generators left.

    Raises LoadtestError.
    """
    if not (folder / RUN_FILE).exists() and parts.started(folder / PARTS) is not None:
        settings = load_settings(folder / PARTS / RUN_FILE)
        _write(folder, replace(settings, ended_early="it was killed, or its files could not be written"), [])
    return load_run(folder)


class Watch:
    """Watch the generators, and end the run if the server is gone."""

    def __init__(self, profile: Profile, folder: Path, say: Say) -> None:
        """Watch the generators that write their records to `folder`."""
        self.profile, self.folder = profile, folder
        self.cpu_share: list[tuple[float, float]] = []
        self.ended_early: str | None = None
        self._say, self._tail = say, parts.Tail(folder)
        self._requests = self._errors = 0
        self._answered = time.monotonic()

    @property
    def started(self) -> float | None:
        """Start of the load on the machine's monotonic clock; None before it."""
        return parts.started(self.folder)

    def ended(self, settings: RunSettings) -> RunSettings:
        """Add what was seen to the settings of the run."""
        generator = replace(settings.generator, cpu_share=tuple(self.cpu_share))
        return replace(settings, ended_early=self.ended_early, generator=generator)

    def follow(self, plan: Plan, folder: Path) -> None:
        """Run the plan to its end; raises LoadtestError, and KeyboardInterrupt after stopping the generators."""
        with generating(plan, folder, self.folder) as generators:
            try:
                self._watch(generators, plan)
            except KeyboardInterrupt:
                self.ended_early = "interrupted"
                print("\nstopping once the requests in flight have ended", file=sys.stderr, flush=True)
                generators.stop()
                raise
            except LoadtestError as error:
                self.ended_early = str(error).partition("\n")[0]
                raise

    def _watch(self, generators: Generators, plan: Plan) -> None:
        begun, usage = time.monotonic(), Usage(generators)
        latest = begun + START_S + self.profile.duration_s + generators.patience_s
        waiting = "preparing pictures and histories"
        if plan.bind is not None:
            latest += plan.wait_s + START_S
            waiting = f"waiting at {plan.bind} for {plan.workers} workers, which then prepare"
        while not generators.wait(EVERY_S):
            share = max(usage.busiest(), parts.workers_cpu_share(self.folder))
            if self.started is None:
                self._answered = time.monotonic()
                self._say(f"{waiting}: {self._answered - begun:.0f} s")
            else:
                self._look(time.monotonic() - self.started, share)
            if time.monotonic() - self._answered > DEAD_S and self._errors:
                self.ended_early = f"no answer for {DEAD_S:g} s"
                return generators.stop()
            if time.monotonic() > latest:
                raise LoadtestError(f"Locust did not end in time; see {generators.log}")
        return None

    def _look(self, t_s: float, share: float) -> None:
        new = self._tail.new()
        errors = int(np.count_nonzero(new["error"] >= 0))
        self._requests, self._errors = self._requests + len(new), self._errors + errors
        if len(new) > errors or not len(new):
            self._answered = time.monotonic()
        if EVERY_S < t_s <= self.profile.duration_s:  # not the CPU use before the load
            self.cpu_share.append((t_s, share))
        now_s, whole_s = min(max(t_s, 0.0), self.profile.duration_s), self.profile.duration_s
        self._say(
            f"{now_s:.0f} of {whole_s:.0f} s: {self._requests:,} requests, "
            f"{self._errors:,} failed, {len(new) / EVERY_S:,.0f} per second"
        )


def _empty(folder: Path) -> None:
    """Make the folder, and remove what an earlier run left there."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    (folder / PARTS).mkdir(parents=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _write(folder: Path, settings: RunSettings, samples: Sequence[Sample]) -> None:
    """Write samples, records and settings, in this order: a folder with settings is complete. Raises LoadtestError."""
    records, duration_s = parts.collect(folder / PARTS, settings.profile), settings.duration_s
    if settings.ended_early and len(records):
        duration_s = min(duration_s, float(records.ended_s.max()))
    bound, remote = parts.bound_reached(folder / PARTS), parts.workers(folder / PARTS)
    generator = replace(settings.generator, bound_reached=bound, remote=remote)
    try:
        save_samples(folder / SERVER_FILE, samples)
        save_records(folder / RECORDS_FILE, records)
        save_settings(folder / RUN_FILE, replace(settings, duration_s=duration_s, generator=generator))
    except OSError as error:
        raise LoadtestError(
            f"the run cannot be written ({error}); the records of its {len(records):,} requests are still in "
            f"{folder / PARTS}: make room, then collect them with `python -m loadtest report {folder} --slos FILE`"
        ) from error
