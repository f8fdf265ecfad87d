"""Commands for finished runs: `report` judges one again, `baseline` saves several for a comparison.

python -m loadtest report build/loadtest/NAME --slos FILE [--baseline FILE --repeats FOLDER ...]
python -m loadtest baseline FILE FOLDER ...
"""

import argparse
from pathlib import Path
from typing import Any

from loadtest.errors import LoadtestError
from loadtest.judge.baseline import compare, load_baseline, save_baseline
from loadtest.judge.slo import load_slos
from loadtest.judge.verdict import check
from loadtest.records import load_run
from loadtest.report.write import write_report
from loadtest.run.one import finished_run
from loadtest.second_opinion.compare import kept_opinion


def add_report_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the `report` command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="judge a run again and write its report",
        description="Judge a finished run and write its report. The exit code is 0; 1 if an objective was not shown to "
        "hold, or a metric is worse than in the baseline; 2 if a file is missing or unusable.",
    )
    parser.add_argument("folder", type=Path, help="folder of the run")
    parser.add_argument(
        "--slos", type=Path, required=True, metavar="FILE", help="objectives (SLOs) to judge it against"
    )
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="saved runs to compare it with")
    parser.add_argument(
        "--repeats", type=Path, nargs="+", default=[], metavar="FOLDER", help="more runs of this load, to measure noise"
    )
    return parser


def add_baseline_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the `baseline` command."""
    parser: argparse.ArgumentParser = commands.add_parser("baseline", help="save repeated runs for later comparison")
    parser.add_argument("file", type=Path, help="output file")
    parser.add_argument(
        "folders", type=Path, nargs="+", help="folders of runs of one load, three or more to show noise"
    )
    return parser


def report(arguments: argparse.Namespace) -> int:
    """Judge and report; return 0, or 1 if an objective did not hold or a metric got worse. Raises LoadtestError."""
    if arguments.repeats and not arguments.baseline:
        raise LoadtestError("--repeats needs a --baseline to compare with")
    slos, run, comparison = load_slos(arguments.slos), finished_run(arguments.folder), None
    if arguments.baseline:
        runs = [run, *(load_run(folder) for folder in arguments.repeats)]
        comparison = compare(load_baseline(arguments.baseline), runs)
    verdict = check(run, slos)
    print(f"{verdict.word}: {verdict.reason}")
    worse = comparison.worse if comparison else ()
    for change in worse:
        print(f"{change.name}: {change.statement}")
    print(f"wrote {write_report(run, verdict, comparison, kept_opinion(run))}")
    return int(bool(worse) or not verdict.ok)


def baseline(arguments: argparse.Namespace) -> int:
    """Save the runs and return 0; raises LoadtestError."""
    save_baseline(arguments.file, [load_run(folder) for folder in arguments.folders])
    print(f"wrote {arguments.file}")
    return 0
