"""Commands on runs that are there: `report` renders one again, `baseline` keeps several for later comparison.

python -m loadtest report build/loadtest/NAME --slos FILE [--baseline FILE --repeats FOLDER ...]
python -m loadtest baseline FILE FOLDER ...
"""

import argparse
from pathlib import Path
from typing import Any

from loadtest.baseline import compare, load_baseline, save_baseline
from loadtest.errors import LoadtestError
from loadtest.records import load_run
from loadtest.report import write_report
from loadtest.slo import load_slos
from loadtest.verdict import check


def add_report_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `report` to the subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser("report", help="judge a run again, and render it")
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("--slos", type=Path, required=True, metavar="FILE", help="objectives that it is held against")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="saved runs that it is compared with")
    parser.add_argument(
        "--repeats", type=Path, nargs="+", default=[], metavar="FOLDER", help="of the same load: they show the noise"
    )
    return parser


def add_baseline_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `baseline` to the subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser("baseline", help="save repeated runs to compare with")
    parser.add_argument("file", type=Path, help="to write")
    parser.add_argument("folders", type=Path, nargs="+", help="of runs of one load; three or more show the noise")
    return parser


def report(arguments: argparse.Namespace) -> int:
    """Render; 0, or 1 where an objective did not hold or something got worse. Raises LoadtestError."""
    if arguments.repeats and not arguments.baseline:
        raise LoadtestError("--repeats are for a comparison: give its --baseline too")
    slos, run, comparison = load_slos(arguments.slos), load_run(arguments.folder), None
    if arguments.baseline:
        runs = [run, *(load_run(folder) for folder in arguments.repeats)]
        comparison = compare(load_baseline(arguments.baseline), runs)
    verdict = check(run, slos)
    print(f"{verdict.word}: {verdict.reason}")
    worse = comparison.worse if comparison else ()
    for change in worse:
        print(f"{change.name}: {change.statement}")
    print(f"wrote {write_report(run, verdict, comparison)}")
    return int(bool(worse) or not verdict.ok)


def baseline(arguments: argparse.Namespace) -> int:
    """Save; 0. Raises LoadtestError."""
    save_baseline(arguments.file, [load_run(folder) for folder in arguments.folders])
    print(f"wrote {arguments.file}")
    return 0
