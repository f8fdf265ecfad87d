"""Find the config settings that serve a workload best, one setting at a time.

It needs no running server: it starts one for each value, on this machine.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.load.workload import DEFAULT, load_workload
from loadtest.run.server_config import environment
from loadtest.sweep.configs import load_plan
from loadtest.sweep.load import SweepLoad
from loadtest.sweep.report import sentence, sweep_markdown
from loadtest.sweep.search import Measure, Search, Serve, Sweep, save_sweep, serve_strictly
from measure.files import write_text
from measure.markdown import number

RESULTS, REPORT = "sweep.json", "sweep.md"
FOLDER = Path("build/loadtest/sweep")
PLANS = Path(__file__).parents[1] / "sweeps"


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the `sweep` command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sweep", help="find the config settings that serve a workload best", description=__doc__
    )
    option = parser.add_argument
    option("--repository", type=Path, default=Path("model_repository"), help="whose settings to improve (%(default)s)")
    option("--plan", type=Path, default=PLANS / "cpu.toml", metavar="FILE", help="settings to try, TOML (cpu.toml)")
    option("--workload", type=Path, default=DEFAULT, metavar="FILE", help=f"requests to send, TOML ({DEFAULT.name})")
    option("--out", type=Path, default=FOLDER, metavar="FOLDER", help="output folder (%(default)s)")
    option("--rounds", type=int, default=5, metavar="N", help="measurements of every value, in turn (%(default)s)")
    option("--requests", type=int, default=80, metavar="N", help="requests per measurement (%(default)s)")
    option("--clients", type=int, default=8, metavar="N", help="concurrent clients (%(default)s)")
    return parser


def run(arguments: argparse.Namespace, measure: Measure | None = None, serve: Serve = serve_strictly) -> int:
    """Sweep, write the report after each measurement, and return 0; raises LoadtestError."""
    plan, workload = load_plan(arguments.plan), load_workload(arguments.workload)
    load = SweepLoad(workload=workload, requests=arguments.requests, clients=arguments.clients)
    conditions = {
        "requests": load.requests,
        "clients": load.clients,
        "rounds": arguments.rounds,
        "workload": asdict(workload),
        "environment": environment(),
    }
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    print(
        f"trying {', '.join(plan.values())}: {arguments.rounds} rounds of {load.requests} requests per value",
        flush=True,
    )

    def keep(sweep: Sweep) -> None:
        save_sweep(out / RESULTS, sweep, conditions)
        write_text(out / REPORT, sweep_markdown(sweep, conditions))
        trial = sweep.confirmation or sweep.trials[-1] if sweep.trials else None
        if trial and not sweep.finished:
            print(f"{trial.setting}: {_progress(trial)}", flush=True)

    sweep = Search(arguments.repository, measure or load, arguments.rounds, keep, serve).run(plan)
    print(f"{sentence(sweep)}\nwrote {out / REPORT}")
    return 0


def _progress(trial: Any) -> str:
    """Format the latest values of each candidate."""
    return "; ".join(
        f"{candidate.label} " + (", ".join(map(number, candidate.rounds[-1].values())) if candidate.rounds else "...")
        for candidate in trial.candidates
    )
