"""Train and evaluate every preset and comparison method with several seeds, and report: `python -m training.ablation`.

Finished runs are kept and reused, so an interrupted study continues. Without --data it generates its own pictures,
and other ones of other users to pretrain the backbone on, as the paper starts from ImageNet.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from altreco_client.cli.pipe import quiet_pipe

from measure.machine import describe_machine
from measure.progress import progress_bar
from training.ablation.backbones import OTHERS, pretrained
from training.ablation.parts import MAIN, NAMES, Part, all_parts, main_part, make_data
from training.ablation.report import write_report
from training.ablation.rows import BACKBONES
from training.ablation.study import Study, command
from training.data.manifest import read_manifest
from training.errors import SettingsError, TrainingError
from training.methods.compare import RUNS, lacking
from training.presets import SIZES


@quiet_pipe()
def main() -> int:
    """Run the study; 0, or 1 with the reason on stderr."""
    arguments = _parser().parse_args()
    try:
        parts = _parts(arguments)
        names = arguments.only or [part.name for part in parts]
        if arguments.data is None:
            make_data(names, arguments.work)
        carry_out([part for part in parts if part.name in names], arguments.seeds, arguments.jobs)
        if not parts[0].is_done(arguments.seeds):
            print(f"no report yet: it needs the part {parts[0].name}")
        else:
            print(f"wrote {write_report(parts, arguments.seeds, arguments.out, arguments.machine)}")
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished runs are reused next time", file=sys.stderr)
        return 130
    return 0


def _parts(arguments: argparse.Namespace) -> list[Part]:
    """All parts, or the main one alone if the data is given; with backbones made unless one is given."""
    work, data, backbone = arguments.work, arguments.data, arguments.backbone
    if data is not None and set(arguments.only or ()) - {MAIN}:
        raise SettingsError(f"--data takes the place of generated data: expected --only {MAIN} beside it, or no --only")
    left_out = {} if data is None else lacking(read_manifest(data))
    if backbone is None:
        backbone = pretrained(arguments.size, work, arguments.device)
        for name in OTHERS:
            pretrained(arguments.size, work, arguments.device, name)
    else:
        left_out |= dict.fromkeys(BACKBONES, "--backbone is given: another --backbone and --work measure another one")

    def study(folder: Path, epochs: int) -> Study:
        return Study(
            size=arguments.size,
            data=str(folder),
            work=str(work / "runs" / folder.name),
            backbone=str(backbone),
            epochs=epochs,
            workers=arguments.workers,
            device=arguments.device,
        )

    epochs = arguments.epochs or SIZES[arguments.size]().epochs
    if data is None:
        return all_parts(work, study, epochs, left_out)
    return [main_part(study(data, epochs), left_out)]


def carry_out(parts: Sequence[Part], seeds: int, jobs: int) -> None:
    """Do all runs that have no result yet, `jobs` at a time. Raises TrainingError if one fails; other results stay.

    The runs of the first seed come first.
    """
    for methods in (False, True):  # methods use what the variants have trained
        runs = [
            (study, run, seed)
            for seed in range(seeds)
            for part in parts
            for study in part.studies
            for run in part.runs
            if (run in RUNS) is methods
        ]
        missing = [run for run in dict.fromkeys(runs) if not run[0].is_done(*run[1:])]
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(_run, *run, jobs) for run in missing]
            try:
                for future in progress_bar(as_completed(futures), "runs", total=len(futures), unit="run"):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _run(study: Study, run: str, seed: int, jobs: int) -> None:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    log = study.result(run, seed).with_suffix(".txt")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        done = subprocess.run(
            command(study, run, seed),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": threads},
        )
    if done.returncode:
        raise TrainingError(f"run {run}, seed {seed} failed: see {log}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.ablation", description=__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="ablation", help="size preset (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="data set folder, instead of generated pictures")
    parser.add_argument("--only", choices=NAMES, nargs="+", help="parts to do (default: all; with --data: main)")
    parser.add_argument("--backbone", help='pretrained, by name or folder; "" for random weights')
    parser.add_argument("--epochs", type=int, help="number of epochs (default: the size's)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time: 1 on a GPU (default: cores)")
    parser.add_argument("--workers", type=int, default=0, help="processes of each run that read pictures (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if any")
    parser.add_argument("--work", type=Path, default=Path("build/ablation"), help="folder of the runs (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the report (%(default)s)")
    parser.add_argument("--machine", default=describe_machine(), help="what the report calls it (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
