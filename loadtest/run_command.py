"""Make load by a profile, and judge what came of it: `python -m loadtest run --profile steady`.

The run's folder holds settings, an entry for each request, and Triton's statistics. The exit code is 0; 1 where an SLO
does not hold, or without SLOs a request failed, or the generators were the limit; 2 where the run could not be made;
130 where it was stopped with Ctrl-C, which keeps what was recorded.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from deploy.access import PLAIN
from loadtest.errors import LoadtestError
from loadtest.profiles import PROFILES, Profile, load_profile
from loadtest.records import Run, load_run
from loadtest.report import write_report
from loadtest.run import measure_limit, run_load, vocabulary_size
from loadtest.second_opinion import second_opinion
from loadtest.slo import LATE_MS, SLOs, load_slos
from loadtest.target import add_load_options, target_of
from loadtest.verdict import GENERATOR, Outcome, check
from loadtest.workload import load_workload
from measure.callers import percentile

FOLDER = Path("build/loadtest")
CLOSE_TO_LIMIT = 0.7
"""Of what the generators can send: a rate above it is warned of."""
EVERY_S = 10.0


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `run` to the subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run", help="make load by a profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.toml")))
    option = parser.add_argument
    option("--profile", default="steady", metavar="NAME", help=f"{known}, or a .toml file (%(default)s)")
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--rate", type=float, metavar="R", help="requests a second that leave in any case: an open load")
    load.add_argument("--users", type=int, metavar="N", help="who wait for each answer: a closed load")
    option("--duration", type=float, metavar="S", help="seconds, in place of the profile's; its stages by one factor")
    option("--second-opinion", action="store_true", help="repeat it with NVIDIA's perf_analyzer, into the report")
    option("--slos", type=Path, metavar="FILE", help="objectives that it is held against, and a report of it")
    option(
        "--out", type=Path, metavar="FOLDER", help=f"of the run (default: one in {FOLDER}, named by profile and time)"
    )
    add_load_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Make the run, and say what came of it: the exit code. Raises LoadtestError."""
    profile = load_profile(arguments.profile)
    profile = profile.changed(rate=arguments.rate, users=arguments.users, duration_s=arguments.duration)
    workload = load_workload(arguments.workload)
    slos = load_slos(arguments.slos) if arguments.slos else None
    folder: Path = arguments.out or FOLDER / f"{profile.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    with target_of(arguments) as target:
        if arguments.second_opinion and target.access != PLAIN:
            raise LoadtestError("perf_analyzer is given no TLS, headers or keys: leave out --second-opinion")
        tags = vocabulary_size(target)
        limit = None if arguments.no_calibration else measure_limit(workload, tags=tags, workers=arguments.workers)
        print(f"{_load(profile)} against {target.url}{_of_limit(profile, limit)}", flush=True)
        try:
            made = run_load(
                target, profile, workload, folder, workers=arguments.workers, limit=limit, say=Progress().say
            )
        except KeyboardInterrupt:
            print("\n" + summary(load_run(folder)))
            return 130
        print(summary(made), flush=True)
        if arguments.second_opinion:
            _hear(made, target.url)
    return _judge(made, slos)


class Progress:
    """A line that is written over on a terminal; elsewhere one every ten seconds."""

    def __init__(self) -> None:
        """Nothing said yet."""
        self._said = 0.0

    def say(self, line: str) -> None:
        """Show it."""
        if sys.stderr.isatty():
            print(f"\r{line:<100}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._said > EVERY_S:
            self._said = time.monotonic()
            print(line, file=sys.stderr, flush=True)


def summary(run: Run) -> str:
    """Requests, latencies, errors, and what to know of the generators."""
    records, generator = run.records, run.settings.generator
    answered = records.where(records.error < 0)
    lines = [f"{len(records):,} requests in {run.settings.duration_s:.0f} s, {len(records) - len(answered):,} failed"]
    if len(answered):
        p50, p95, p99 = (percentile(answered.latency_ms(), percent) for percent in (50, 95, 99))
        lines.append(f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, from when they should have left")
    errors = Counter(records.errors[number] for number in records.error[records.error >= 0])
    lines += [f"  {count:,} times {error}" for error, count in errors.most_common()]
    late = int(np.count_nonzero(records.late_ms() > LATE_MS))
    if late:
        bound = ", as too many were under way" if generator.bound_reached else ""
        lines.append(f"{late:,} requests left more than {LATE_MS:g} ms late{bound}")
    if run.settings.ended_early:
        lines.append(f"it ended early: {run.settings.ended_early}")
    return "\n".join([*lines, f"wrote {run.folder}"])


def _hear(run: Run, url: str) -> None:
    """Of perf_analyzer; without it, the run is worth what it was."""
    print(f"the same again with perf_analyzer, {run.settings.duration_s:.0f} s", flush=True)
    try:
        opinion = second_opinion(run, url)
    except LoadtestError as error:
        print(f"no second opinion: {error}", file=sys.stderr)
        return
    print(
        "\n".join(f"{name:<28}{locust:>12}{other:>16}" for name, locust, other in (opinion.table[0], *opinion.table[1]))
    )


def _judge(run: Run, slos: SLOs | None) -> int:
    verdict = check(run, slos or SLOs())
    limits = [of for of in verdict.objectives if of.group == GENERATOR and of.outcome is Outcome.MISSED]
    if limits:
        print(
            f"NOT VALID: {'; '.join(of.sentence for of in limits)}. These latencies are not the server's: give the "
            "generator more --workers, or ask for less"
        )
    if slos is None:
        failed = bool(run.settings.ended_early or limits or (run.records.error >= 0).any())
        return int(failed or not len(run.records))
    print(f"{verdict.word}: {verdict.reason}\nwrote {write_report(run, verdict)}")
    return verdict.exit_code


def _load(profile: Profile) -> str:
    amount = f"{profile.users} users" if profile.users else f"{profile.rate:g} requests a second"
    return f"{profile.name}: {profile.duration_s:.0f} s of {amount} ({profile.load} load)"


def _of_limit(profile: Profile, limit: float | None) -> str:
    """What the generators can do, and a warning where that is asked of them."""
    if limit is None:
        return ""
    sentence = f"; the generators can send {limit:,.0f} a second"
    if profile.peak_rate is None or profile.peak_rate <= CLOSE_TO_LIMIT * limit:
        return sentence
    return f"{sentence}, and {profile.peak_rate:g} are asked of them: give more --workers"
