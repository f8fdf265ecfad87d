"""Train and evaluate every preset and comparison method with several seeds, and report: `python -m training.ablation`.

Finished runs are kept and used again, so an interrupted study goes on where it was. Without --data it generates its
own pictures, and other ones of other users to pretrain the backbone on, as the paper starts from ImageNet.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import product
from pathlib import Path

from altreco_client.cli.pipe import quiet_pipe
from tqdm import tqdm

from measure.machine import describe_machine
from training.ablation.report import write_report
from training.ablation.rows import METHODS, VARIANTS
from training.ablation.study import Study, command
from training.checkpoint import load_checkpoint
from training.data.synthetic import SyntheticSettings, generate
from training.errors import TrainingError
from training.presets import SIZES, preset
from training.train import Options, train

PICTURES = SyntheticSettings(pictures=3600, users=60, test_share=1 / 6, seed=7)
PRETRAINING_PICTURES = SyntheticSettings(pictures=3600, users=60, test_share=0.05, seed=1007)
PRETRAINING_EPOCHS = 4


@quiet_pipe()
def main() -> int:
    """Run the study; 0, or 1 with the reason on stderr."""
    arguments = _parser().parse_args()
    try:
        study = _study(arguments)
        carry_out(study, arguments.seeds, arguments.jobs)
        print(f"wrote {write_report(study, arguments.seeds, arguments.out, arguments.machine)}")
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished runs are used again next time", file=sys.stderr)
        return 130
    return 0


def _study(arguments: argparse.Namespace) -> Study:
    """With its data set and its backbone made, if it brings none."""
    work: Path = arguments.work
    data, backbone = arguments.data, arguments.backbone
    if data is None:
        data = generate(work / "data", PICTURES)
    if backbone is None:
        backbone = _pretrained(arguments.size, work, arguments.device)
    return Study(
        size=arguments.size,
        data=str(data),
        work=str(work / "runs"),
        backbone=str(backbone),
        epochs=arguments.epochs or SIZES[arguments.size]().epochs,
        workers=arguments.workers,
        device=arguments.device,
    )


def _pretrained(size: str, work: Path, device: str) -> Path:
    """A backbone trained on the tags of other generated pictures, as a folder that `transformers` reads."""
    folder = work / f"{size}-backbone"
    if not folder.exists():
        checkpoint = work / f"{size}-pretrained.pt"
        data = generate(work / "pretraining-data", PRETRAINING_PICTURES)
        train(
            preset(f"{size}/A1", epochs=PRETRAINING_EPOCHS, seed=1007), data, checkpoint, options=Options(device=device)
        )
        partial = folder.with_name(folder.name + ".partial")
        load_checkpoint(checkpoint).model.visual_encoder.backbone.save_pretrained(partial)
        partial.rename(folder)
    return folder


def carry_out(study: Study, seeds: int, jobs: int) -> None:
    """All runs that have no result yet, `jobs` at a time. Raises TrainingError when one fails; other results stay.

    The first seed's come first, so that there is something to look at early.
    """
    Path(study.work).mkdir(parents=True, exist_ok=True)
    for runs in (VARIANTS, (METHODS,)):  # METHODS takes what the variants have trained
        missing = [(run, seed) for seed, run in product(range(seeds), runs) if not study.is_done(run, seed)]
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(_run, study, run, seed, jobs) for run, seed in missing]
            try:
                for future in tqdm(as_completed(futures), "runs", total=len(futures), unit="run"):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _run(study: Study, run: str, seed: int, jobs: int) -> None:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    log = study.result(run, seed).with_suffix(".txt")
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
    parser.add_argument("--backbone", help='pretrained, by name or folder; "" for random weights')
    parser.add_argument("--epochs", type=int, help="instead of the size's")
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
