"""Send the load of a profile and judge the result: `python -m loadtest run --profile steady`.

The folder gets settings, one record per request, and Triton's statistics. The exit code is 0; 1 if an SLO was not shown
to hold (without SLOs: if a request failed), the generator was the limit, or perf_analyzer failed; 2 if the run was not
possible; 130 if it was stopped with Ctrl-C, which keeps what was recorded.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from deploy.access import PLAIN
from loadtest.commands.target import add_load_options, generator_limit, host_and_port, target_of
from loadtest.errors import LoadtestError
from loadtest.judge.slo import LATE_MS, PERCENTILES, SLOs, load_slos, requests_needed
from loadtest.judge.verdict import GENERATOR, METRICS, Outcome, check
from loadtest.load.plan import Plan
from loadtest.load.profiles import PROFILES, Profile, load_profile
from loadtest.load.workload import load_workload
from loadtest.records import Records, Run, load_run
from loadtest.report.write import write_report
from loadtest.run.one import run_load
from loadtest.second_opinion.compare import SecondOpinion, second_opinion
from loadtest.second_opinion.perf_analyzer import check_load, fetch
from measure.callers import percentile
from measure.markdown import number

FOLDER = Path("build/loadtest")
BOTTLENECK = "The generator was the bottleneck, not the server: give it more --workers or a lower rate"
CLOSE_TO_LIMIT = 0.7
"""Share of the generator's highest rate above which a profile gets a warning."""
EVERY_S = 10.0
"""Time between lines of progress if stderr is not a terminal."""
PRINTED = ("p50_ms", "p95_ms", "p99_ms")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the `run` command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="send the load of a profile and judge the result",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.toml")))
    option = parser.add_argument
    option("--profile", default="steady", metavar="NAME", help=f"{known}, or a .toml file (%(default)s)")
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--rate", type=float, metavar="R", help="open load: send R requests/s, however slow the answers")
    load.add_argument("--users", type=int, metavar="N", help="closed load: N users, each waits for its answer")
    option("--duration", type=float, metavar="S", help="seconds; scales the stages of the profile")
    option("--second-opinion", action="store_true", help="repeat the run with NVIDIA's perf_analyzer and compare")
    option("--slos", type=Path, metavar="FILE", help="judge the run against these objectives (SLOs) and write a report")
    option("--out", type=Path, metavar="FOLDER", help=f"output folder (default: {FOLDER}/PROFILE-TIME)")
    add_load_options(parser)
    option = parser.add_argument_group("workers on other machines").add_argument
    bind = "address of this machine, on a private network, for --workers of `python -m loadtest worker`"
    option("--bind", type=host_and_port, metavar="HOST:PORT", help=bind)
    option("--wait", type=float, default=Plan.wait_s, metavar="S", help="time for them to come, seconds (%(default)g)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Make the run, print the result, and return the exit code; raises LoadtestError."""
    profile = load_profile(arguments.profile)
    profile = profile.changed(rate=arguments.rate, users=arguments.users, duration_s=arguments.duration)
    workload = load_workload(arguments.workload)
    slos = load_slos(arguments.slos) if arguments.slos else None
    folder: Path = arguments.out or FOLDER / f"{profile.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if arguments.second_opinion:
        check_load(profile, arguments.url)
    if arguments.bind is not None and arguments.url is None:
        raise LoadtestError("--bind needs the --url of a running server, which the workers' machines can reach")
    with target_of(arguments) as target:
        if arguments.second_opinion:
            if target.access != PLAIN:
                raise LoadtestError("perf_analyzer gets no TLS, headers or keys: leave out --second-opinion")
            fetch()
        limit = generator_limit(arguments, target, workload) if arguments.bind is None else None
        print(f"{_load(profile)} against {target.url}{_of_limit(profile, limit)}", flush=True)
        progress = Progress()
        try:
            made = run_load(
                target,
                profile,
                workload,
                folder,
                workers=arguments.workers,
                bind=arguments.bind,
                wait_s=arguments.wait,
                limit=limit,
                say=progress.say,
            )
        except KeyboardInterrupt:
            progress.end()
            print(summary(load_run(folder)))
            return 130
        progress.end()
        print(summary(made), flush=True)
        opinion = _second_opinion(made, target.url) if arguments.second_opinion else None
    return max(print_verdict(made, slos, opinion), int(arguments.second_opinion and opinion is None))


class Progress:
    """Progress on stderr: one line that is overwritten on a terminal, elsewhere a line every EVERY_S."""

    def __init__(self) -> None:
        """Start without a line."""
        self._said: float | None = None

    def say(self, line: str) -> None:
        """Show a line."""
        if sys.stderr.isatty():
            print(f"\r{line:<100}", end="", file=sys.stderr, flush=True)
        elif self._said is not None and time.monotonic() - self._said < EVERY_S:
            return
        else:
            print(line, file=sys.stderr, flush=True)
        self._said = time.monotonic()

    def end(self) -> None:
        """End the line on a terminal."""
        if self._said is not None and sys.stderr.isatty():
            print(file=sys.stderr)


def summary(run: Run) -> str:
    """Describe a run: failures and lateness first, then the latencies of the answered requests."""
    records, generator = run.records, run.settings.generator
    answered = records.where(records.error < 0)
    lines = [f"{len(records):,} requests in {run.settings.duration_s:.0f} s, {len(records) - len(answered):,} failed"]
    errors = Counter(records.errors[index] for index in records.error[records.error >= 0])
    lines += [f"  {count:,} times {error}" for error, count in errors.most_common()]
    if not len(records) and not run.settings.ended_early:
        lines.append(_nothing(run.settings.profile))
    if run.settings.ended_early:
        lines.append(f"the run ended early: {run.settings.ended_early}")
    late = int(np.count_nonzero(records.late_ms() > LATE_MS))
    if late:
        bound = " because too many were in flight" if generator.bound_reached else ""
        lines.append(f"{late:,} requests were sent more than {LATE_MS:g} ms late{bound}")
    if len(answered):
        lines.append(_latencies(answered, failed=len(records) - len(answered)))
    return "\n".join([*lines, f"wrote {run.folder}"])


def _nothing(profile: Profile) -> str:
    """Explain a run to its end without a request."""
    if profile.users is None:
        return f"at random times, none was due: raise the rate ({profile.rate:g} per second) or the --duration"
    return "no user had begun one by then: raise the number of --users or the --duration"


def _latencies(answered: Records, *, failed: int) -> str:
    """Format the percentiles for which enough requests were answered."""
    needed = {key: requests_needed(key, 0) for key in PRINTED}
    few = [f"{METRICS[key]} {needed[key]:,}" for key in PRINTED if len(answered) < needed[key]]
    latency_ms = answered.latency_ms()
    shown = [
        f"{METRICS[key]} {number(percentile(latency_ms, PERCENTILES[key]))} ms"
        for key in PRINTED
        if len(answered) >= needed[key]
    ]
    of = f" of the {len(answered):,} answered requests alone" if failed else ""
    line = f"latency{of}, from when requests were due: {', '.join(shown) or 'too few to tell'}"
    return line + (f" (answered requests needed: {', '.join(few)})" if few else "")


def _second_opinion(run: Run, url: str) -> SecondOpinion | None:
    """Print perf_analyzer's figures beside the run's; if that fails, print why and return None."""
    print(f"repeating the run with perf_analyzer: {run.settings.duration_s:.0f} s", flush=True)
    try:
        opinion = second_opinion(run, url)
    except LoadtestError as error:
        print(f"no second opinion: {error}", file=sys.stderr)
        return None
    print(
        "\n".join(f"{name:<32}{locust:>12}{other:>16}" for name, locust, other in (opinion.table[0], *opinion.table[1]))
    )
    return opinion


def print_verdict(run: Run, slos: SLOs | None, opinion: SecondOpinion | None) -> int:
    """Print the verdict and write the report, if there are SLOs; return the exit code."""
    verdict = check(run, slos or SLOs())
    limits = [of for of in verdict.objectives if of.group == GENERATOR and of.outcome is Outcome.MISSED]
    advice = f". {BOTTLENECK}" if limits else ""
    if slos is None:
        if not verdict.valid:
            print(f"NOT VALID: {'; '.join([*verdict.worker_faults, *(of.sentence for of in limits)])}{advice}")
        failed = bool(run.settings.ended_early or not verdict.valid or (run.records.error >= 0).any())
        return int(failed or not len(run.records))
    print(f"{verdict.word}: {verdict.reason}{advice}\nwrote {write_report(run, verdict, opinion=opinion)}")
    return verdict.exit_code


def _load(profile: Profile) -> str:
    amount = f"{profile.users} users" if profile.users else f"{profile.rate:g} requests per second"
    return f"{profile.name}: {profile.duration_s:.0f} s of {amount} ({profile.load} load)"


def _of_limit(profile: Profile, limit: float | None) -> str:
    """Describe the generator's limit, with a warning if the profile comes close to it."""
    if limit is None:
        return ""
    sentence = f"; the generator can send {limit:,.0f} per second"
    if profile.peak_rate is None or profile.peak_rate <= CLOSE_TO_LIMIT * limit:
        return sentence
    return f"{sentence}, too close to the {profile.peak_rate:g} of this profile: give more --workers"
