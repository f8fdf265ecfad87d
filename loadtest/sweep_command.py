"""The command that tries settings of the configs, and its options: `python -m loadtest sweep`."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.environment import environment
from loadtest.sweep import Measure, Search, Serve, Sweep, save_sweep, serve_strictly
from loadtest.sweep_configs import load_plan
from loadtest.sweep_load import SweepLoad
from loadtest.sweep_report import sentence, sweep_markdown
from loadtest.workload import DEFAULT, load_workload
from measure.files import write_text
from measure.markdown import number

RESULTS, REPORT = "sweep.json", "sweep.md"
PLANS = Path(__file__).parent / "sweeps"


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `sweep` to the subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sweep", help="which settings of the configs serve a workload best", description=__doc__
    )
    option = parser.add_argument
    option("--repository", type=Path, default=Path("model_repository"), help="with a release in it (%(default)s)")
    option("--plan", type=Path, default=PLANS / "cpu.toml", help="TOML: what to try (%(default)s)")
    option("--workload", type=Path, default=DEFAULT, help="TOML: what to ask for (%(default)s)")
    option("--out", type=Path, default=Path("build/loadtest/sweep"), help="folder (%(default)s)")
    option("--rounds", type=int, default=5, help="in each, all values of a setting are loaded (%(default)s)")
    option("--requests", type=int, default=80, help="of a load (%(default)s)")
    option("--clients", type=int, default=8, help="at once (%(default)s)")
    return parser


def run(arguments: argparse.Namespace, measure: Measure | None = None, serve: Serve = serve_strictly) -> int:
    """Sweep, and keep and report what is known after each load; 0. Raises LoadtestError."""
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
    """The latest of each candidate."""
    return "; ".join(
        f"{candidate.label} " + (", ".join(map(number, candidate.rounds[-1].values())) if candidate.rounds else "...")
        for candidate in trial.candidates
    )
