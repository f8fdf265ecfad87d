"""Inject faults into a real Triton under load, and report what held: `python -m reliability`.

Each result is saved when its scenario ends, so single scenarios can be repeated. Run nothing else meanwhile.
"""

import argparse
import datetime
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from altreco_client import AltrecoError
from altreco_client.cli.pipe import quiet_pipe

from deploy.local import ServerError
from export.errors import ExportError
from loadtest.errors import LoadtestError
from measure.kept import ResultsError
from measure.machine import describe_machine, versions
from reliability import hostile, kills, malformed, overload, releases, slow, soak, terminations
from reliability.outcome import Outcome
from reliability.report import read_results, result, results_file, write_report, write_results
from training.errors import TrainingError


def _in_a_folder(scenario: Callable[[Path], Outcome]) -> Callable[[Path], Outcome]:
    """Run a scenario, which makes its own small repositories, in a temporary folder."""

    def run(_: Path) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="altreco-reliability-") as folder:
            return scenario(Path(folder))

    return run


def _of_a_small_release(scenario: Callable[[Path], Outcome]) -> Callable[[Path], Outcome]:
    """Run a scenario on a small release with a golden set."""
    return _in_a_folder(lambda folder: scenario(releases.prepared(folder).repository))


PACKAGES = ("nvidia-pytriton", "onnxruntime", "onnx", "torch", "tritonclient", "numpy", "pillow")

SCENARIOS: dict[str, Callable[[Path], Outcome]] = {
    "killed_server": kills.killed_server,
    "killed_replica": kills.killed_replica,
    "killed_backend": _of_a_small_release(kills.killed_backend),
    "terminated_server": terminations.terminated_server,
    "terminated_replica": terminations.terminated_replica,
    "drained_replica": terminations.drained_replica,
    "full_queue": overload.full_queue,
    "overload": overload.overload,
    "overload_apart": _in_a_folder(partial(overload.overload_apart, clients=1)),
    "overload_by_four": _in_a_folder(partial(overload.overload_apart, clients=4)),
    "vanishing_clients": hostile.vanishing_clients,
    "slow_clients": slow.slow_clients,
    "malformed_requests": malformed.malformed_requests,
    "disk_full": _in_a_folder(releases.disk_full),
    "corrupt_file": _in_a_folder(releases.corrupt_file),
    "two_at_once": _in_a_folder(releases.two_at_once),
    "soak": soak.soak,
}
NO_OUTCOME = (
    *(AltrecoError, ExportError, LoadtestError, ServerError, TrainingError),
    *(OSError, subprocess.SubprocessError),  # TimeoutError is one
)
"""Errors of a scenario that could not run, or whose server did not recover; the other scenarios still run."""


@quiet_pipe()
def main(arguments: list[str] | None = None, scenarios: Mapping[str, Callable[[Path], Outcome]] = SCENARIOS) -> int:
    """Run and report; return 0 if everything held, 1 if something did not or was not measured, 2 if nothing ran."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in scenarios]:
        parser.error(f"there is no scenario {', '.join(unknown)}, expected {', '.join(scenarios)}")
    if given.list:
        print("\n".join(scenarios))
        return 0
    out, repository = given.out, given.repository
    try:
        results = read_results(results_file(out))
        if given.render and not results:
            raise ResultsError(f"no results in {results_file(out)}: run scenarios first, or name their report by --out")
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.render:
        write_report(out, results, tuple(scenarios), full=given.full)
        print(f"wrote {out}")
        return 0
    if not any(repository.glob("*/*/model.onnx")):
        advice = f"`.venv/bin/python -m export random {repository}` makes one"
        print(f"error: {repository} has no release to serve: {advice}", file=sys.stderr)
        return 2
    held = True
    for name in given.names or scenarios:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        try:
            outcome = scenarios[name](repository)
        except NO_OUTCOME as error:
            print(f"error: {name}: {type(error).__name__}: {error}", file=sys.stderr)
            held = False
            continue
        except KeyboardInterrupt:
            print("stopped; finished scenarios are kept", file=sys.stderr)
            return 130
        _say(outcome)
        held = held and not outcome.missed
        results[name] = result(outcome, _conditions(name, repository, time.monotonic() - started))
        out.parent.mkdir(parents=True, exist_ok=True)
        write_results(results_file(out), results)
        write_report(out, results, tuple(scenarios), full=given.full)
    return 0 if held else 1


def _say(outcome: Outcome) -> None:
    print(outcome.did)
    for what, value in outcome.figures.items():
        print(f"   {what}: {value}")
    for check in outcome.checks:
        print(f"   {'yes' if check.held else 'NO '} {check.what}", flush=True)


def _conditions(name: str, repository: Path, took_s: float) -> dict[str, Any]:
    return {
        "command": f".venv/bin/python -m reliability {name} --repository {repository}",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "took_s": took_s,
        "machine": describe_machine(),
        "versions": versions(PACKAGES),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    option = parser.add_argument
    option("names", nargs="*", metavar="NAME", help="scenarios to run, see --list (default: all)")
    option("--repository", type=Path, default=Path("build/full_size"), metavar="FOLDER", help="to serve (%(default)s)")
    option("--out", type=Path, default=Path("docs/reliability.md"), metavar="FILE", help="report (%(default)s)")
    option("--render", action="store_true", help="run nothing; write the report from the results beside it")
    option("--full", action="store_true", help="write all figures into the report, not only a summary")
    option("--list", action="store_true", help="list the scenarios and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
