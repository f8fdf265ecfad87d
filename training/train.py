"""Train a model: `python -m training.train --data DIR --out CHECKPOINT [--preset small]`.

If it is killed, the same command continues from the last saved state. On several GPUs or machines, start it with
torchrun: `torchrun --nproc-per-node 8 -m training.train ...`. Beside CHECKPOINT it writes a folder `.log` for
TensorBoard, `.curves.png` and, until it is done, `.state`.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from altreco_client.cli.pipe import quiet_pipe
from numpy.typing import NDArray

from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.data.histories import Histories, build_histories
from training.data.manifest import Manifest, hold_out_as, read_manifest
from training.distributed import Processes, processes
from training.dry_run import plan
from training.errors import SettingsError, TrainingError
from training.evaluate import evaluate, format_metrics, precision_at_5
from training.loop import Run, run_phases
from training.metrics_log import MetricsLog, write_curves
from training.model import ALTReco, Discriminator, pretrained_backbone
from training.presets import describe_presets, preset
from training.second_stage import fit_population_prior
from training.settings import TrainSettings, to_json
from training.state import Progress, load_state
from training.transfer import start_from_checkpoint


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that do not change the result.

    `workers`: processes that read pictures; 0 reads them in this one. `save_every`: steps between saved states.
    """

    workers: int = 2
    device: str = "auto"
    save_every: int = 500
    quiet: bool = False


DEFAULT = Options()


def train(
    settings: TrainSettings, data: Path, out: Path, *, init_from: Path | None = None, options: Options = DEFAULT
) -> Checkpoint:
    """Train, evaluate and write the checkpoint; a run of the same settings and data that was stopped continues.

    `init_from`: a checkpoint to fine-tune. Raises TrainingError, and then leaves the last checkpoint and state as they
    are. Under torchrun all processes call this function; the first one evaluates and writes.
    """
    with processes(options.device) as group:
        manifest = _read(settings, data, group)
        histories = build_histories(manifest)
        state, fingerprint = out.with_suffix(".state"), _fingerprint(settings, manifest, init_from)
        progress, saved = load_state(state, fingerprint) if state.exists() else (Progress(), None)
        network, discriminator = _networks(settings, manifest, histories, init_from, saved, group)
        held_out = _held_out(settings, manifest, histories)
        folder = out.with_suffix(".log")
        with MetricsLog(folder if group.first else None, from_step=progress.steps_in_all) as log:
            run = Run(
                settings=settings,
                manifest=manifest,
                histories=histories,
                network=network,
                discriminator=discriminator,
                processes=group,
                validate=lambda: precision_at_5(
                    network, manifest, histories, held_out, workers=options.workers, cold=settings.cold_start
                ),
                log=log,
                state=state,
                fingerprint=fingerprint,
                workers=options.workers,
                save_every=options.save_every,
                quiet=options.quiet,
            )
            steps = run_phases(run, progress, saved)
            if group.first and settings.model.history_path == "hier":
                # A run killed from here on goes on from the end of the phases.
                fit_population_prior(
                    network,
                    manifest,
                    histories,
                    settings,
                    log,
                    first_step=steps,
                    workers=options.workers,
                    quiet=options.quiet,
                )
        checkpoint = Checkpoint(model=network, settings=settings, vocabulary=manifest.vocabulary, metrics={}, data=data)
        if group.first:
            metrics = evaluate(network, manifest, histories, workers=options.workers, quiet=options.quiet)
            checkpoint = replace(checkpoint, metrics=metrics)
            save_checkpoint(out, checkpoint)
            write_curves(folder, out.with_suffix(".curves.png"))
            state.unlink(missing_ok=True)
        return checkpoint


def train_unless_done(settings: TrainSettings, data: Path, out: Path) -> Checkpoint:
    """Load the checkpoint if it has these settings and this vocabulary, else train; raises TrainingError."""
    if out.exists():
        checkpoint = load_checkpoint(out)
        if checkpoint.settings == settings and checkpoint.vocabulary == read_manifest(data).vocabulary:
            print(f"using {out}")
            return checkpoint
    return train(settings, data, out)


def dry_run(settings: TrainSettings, data: Path, device: str) -> None:
    """Print data, parameters, memory and steps of `train`. Raises TrainingError for the same settings and data."""
    with processes(device) as group:
        manifest = _read(settings, data, group)
        if group.first:
            print(plan(settings, manifest, build_histories(manifest), group))


def _read(settings: TrainSettings, data: Path, group: Processes) -> Manifest:
    """Read the data set and hold out what the settings say."""
    manifest = hold_out_as(read_manifest(data), settings)
    batch = min(settings.batch_size, len(manifest.rows("train")))
    if batch % group.count:
        raise SettingsError(f"a batch of {batch} pictures cannot be shared evenly by {group.count} processes")
    return manifest


def _held_out(settings: TrainSettings, manifest: Manifest, histories: Histories) -> NDArray[np.int64]:
    """Return the validation pictures: with a history path, those of users without training pictures."""
    rows = manifest.rows("validation")
    if settings.model.history_path == "none":
        return rows
    return rows[~histories.known[manifest.users[rows]]]


def _networks(
    settings: TrainSettings,
    manifest: Manifest,
    histories: Histories,
    init_from: Path | None,
    saved: Mapping[str, Any] | None,
    group: Processes,
) -> tuple[ALTReco, Discriminator]:
    """Make both networks on the device, with initial weights or those of the saved state."""
    torch.manual_seed(settings.seed)
    network, discriminator = ALTReco(settings.model, histories.tags), Discriminator(histories.tags)
    if saved is not None:
        network.load_state_dict(saved["network"])
        discriminator.load_state_dict(saved["discriminator"])
    else:
        if settings.model.backbone.weights is not None:
            network.visual_encoder.load_pretrained(settings.model.backbone.weights)
        network.start_from(
            pictures=len(manifest.rows("train")),
            total=histories.total(),
            users=histories.users_per_tag(),
            histories=histories.sample(),
        )
        if init_from is not None:
            start_from_checkpoint(network, manifest.vocabulary, load_checkpoint(init_from))
    group.synchronize_batch_norm(network)
    return network.to(group.device), discriminator.to(group.device)


def _fingerprint(settings: TrainSettings, manifest: Manifest, init_from: Path | None) -> str:
    """Hash everything that the result depends on."""
    digest = hashlib.sha256(to_json(settings).encode())
    digest.update("\n".join(manifest.vocabulary.tags).encode())
    tags, images = manifest.tags, manifest.images.utf8
    for array in (manifest.users, manifest.split, tags.offsets, tags.values, images.offsets, images.values):
        digest.update(array.tobytes())
    if init_from is not None:
        digest.update(init_from.read_bytes() if init_from.is_file() else b"")
    return digest.hexdigest()


@quiet_pipe()
def main() -> int:
    """Train as the command line says; return 0, or 1 with the reason on stderr."""
    arguments = _parser().parse_args()
    options = Options(workers=arguments.workers, device=arguments.device, save_every=arguments.save_every)
    try:
        settings = _settings(arguments)
        if arguments.dry_run:
            dry_run(settings, arguments.data, arguments.device)
            return 0
        if arguments.fresh:
            arguments.out.with_suffix(".state").unlink(missing_ok=True)
        checkpoint = train(settings, arguments.data, arguments.out, init_from=arguments.init_from, options=options)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command continues from the last saved state", file=sys.stderr)
        return 130
    if checkpoint.metrics:
        print(format_metrics(checkpoint.metrics))
        print(f"wrote {arguments.out}; curves in {arguments.out.with_suffix('.curves.png')}")
    return 0


def _settings(arguments: argparse.Namespace) -> TrainSettings:
    """Return the preset with the command line's changes."""
    names = {field.name for field in fields(TrainSettings)} - {"preset"}
    changes = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    settings = preset(arguments.preset, **changes)
    if arguments.backbone is not None:
        settings = replace(settings, model=replace(settings.model, backbone=pretrained_backbone(arguments.backbone)))
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="data set folder with manifest.parquet")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--preset", default="paper", help=f"{describe_presets()} (default: %(default)s)")
    parser.add_argument("--backbone", help="pretrained: a name on the Hugging Face hub, or a local folder")
    parser.add_argument("--init-from", type=Path, help="fine-tune this checkpoint; its vocabulary may differ")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="auto: bf16 on a GPU, else fp32")
    for name, kind in (("epochs", int), ("batch-size", int), ("learning-rate", float), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, help="instead of the preset's")
    parser.add_argument("--patience", type=int, help="epochs without a better validation figure; 0 never stops early")
    parser.add_argument("--validation-share", type=float, help="share of training pictures to hold out for --patience")
    parser.add_argument("--second-stage-steps", type=int, help="steps that train the population prior (variants hier)")
    parser.add_argument("--workers", type=int, default=DEFAULT.workers, help="processes that read pictures")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default=DEFAULT.device, help="auto: a GPU if any")
    parser.add_argument("--save-every", type=int, default=DEFAULT.save_every, help="steps between saved states")
    parser.add_argument("--fresh", action="store_true", help="start over, and discard the state of an unfinished run")
    parser.add_argument("--dry-run", action="store_true", help="print data, parameters, memory and steps, and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
