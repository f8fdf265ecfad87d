"""Train a model: `python -m training.train --data DIR --out CHECKPOINT [--preset small]`.

If it is killed, the same command continues from the last saved state. On several GPUs or machines, start it with
torchrun: `torchrun --nproc-per-node 8 -m training.train ...`. Beside CHECKPOINT it writes a folder `.log` for
TensorBoard, `.curves.png` and, until it is done, `.state`.
"""

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
from training.data.dataset import Unreadable
from training.data.histories import Histories, build_histories
from training.data.manifest import Manifest, hold_out_as, read_manifest
from training.distributed import Processes, processes
from training.dry_run import measure, plan
from training.errors import SettingsError, TrainingError
from training.evaluate import evaluate, format_metrics, precision_at_5
from training.loop import Run, run_phases
from training.metrics_log import MetricsLog, write_curves
from training.model import ALTReco, Discriminator
from training.options import DEFAULT, Options, parser, settings_of
from training.second_stage import fit_population_prior
from training.settings import TrainSettings, to_json
from training.state import Saved, Saving, load_state
from training.transfer import start_from_checkpoint


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run starts from. `data`: the fingerprint of what it depends on beside its settings."""

    manifest: Manifest
    histories: Histories
    data: str
    saved: Saved
    network: ALTReco
    discriminator: Discriminator


def train(
    settings: TrainSettings, data: Path, out: Path, *, init_from: Path | None = None, options: Options = DEFAULT
) -> Checkpoint:
    """Train, evaluate and write the checkpoint; a run of the same settings and data that was stopped continues.

    `init_from`: a checkpoint to fine-tune. Raises TrainingError, and then leaves the last checkpoint and state as they
    are. Under torchrun all processes call this function; the first one evaluates and writes.
    """
    with processes(options.device) as group:
        state, folder = out.with_suffix(".state"), out.with_suffix(".log")
        start = group.together(
            lambda: _start(settings, data, state, init_from, group), lambda made: _facts(made, settings, options)
        )
        manifest, histories, progress = start.manifest, start.histories, start.saved.progress
        group.synchronize_batch_norm(start.network)
        network = start.network.to(group.device)
        saving, unreadable = Saving(options.save_every), Unreadable(options.max_bad_pictures)
        mine = _held_out(settings, manifest, histories)[group.rank :: group.count]
        with MetricsLog(folder if group.first else None, from_step=progress.steps_in_all) as log:
            if start.saved.changes:
                said = f"goes on after step {progress.steps_in_all} with {', '.join(start.saved.changes)}"
                log.note(said, progress.steps_in_all)
                _say(said, group, options)
            run = Run(
                settings=settings,
                manifest=manifest,
                histories=histories,
                network=network,
                discriminator=start.discriminator.to(group.device),
                processes=group,
                validate=lambda: precision_at_5(
                    network,
                    manifest,
                    histories,
                    mine,
                    workers=options.workers,
                    cold=settings.cold_start,
                    unreadable=unreadable,
                ),
                log=log,
                state=state,
                data=start.data,
                saving=saving,
                unreadable=unreadable,
                workers=options.workers,
                quiet=options.quiet,
            )
            steps = run_phases(run, start.saved)
            for found in group.gather(unreadable.found):
                unreadable.found.update(found)
            _say(str(saving), group, options)
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
                    unreadable=unreadable,
                )
        checkpoint = Checkpoint(model=network, settings=settings, vocabulary=manifest.vocabulary, metrics={}, data=data)
        if group.first:
            metrics = evaluate(
                network, manifest, histories, workers=options.workers, quiet=options.quiet, unreadable=unreadable
            )
            checkpoint = replace(checkpoint, metrics=metrics)
            save_checkpoint(out, checkpoint)
            write_curves(folder, out.with_suffix(".curves.png"))
            state.unlink(missing_ok=True)
            if unreadable.found:
                _say(f"{len(unreadable.found)} pictures could not be read", group, options)
        return checkpoint


def _say(text: str, group: Processes, options: Options) -> None:
    if group.first and not options.quiet:
        print(text, file=sys.stderr)


def train_unless_done(settings: TrainSettings, data: Path, out: Path) -> Checkpoint:
    """Load the checkpoint if it has these settings and this vocabulary, else train; raises TrainingError."""
    if out.exists():
        checkpoint = load_checkpoint(out)
        if checkpoint.settings == settings and checkpoint.vocabulary == read_manifest(data).vocabulary:
            print(f"using {out}")
            return checkpoint
    return train(settings, data, out)


def dry_run(settings: TrainSettings, data: Path, options: Options) -> None:
    """Print data, parameters, memory, steps and speed of `train`. Raises TrainingError for the same settings and data.

    The speed is measured: some steps without their results, and some pictures read.
    """
    with processes(options.device) as group:
        manifest = _read(settings, data)
        histories = build_histories(manifest)
        _check(settings, manifest, histories, group)
        if group.first:
            print(plan(settings, manifest, histories, group))
            print(measure(settings, manifest, histories, group, workers=options.workers))


def _read(settings: TrainSettings, data: Path) -> Manifest:
    """Read the data set and hold out what the settings say."""
    return hold_out_as(read_manifest(data), settings)


def _check(settings: TrainSettings, manifest: Manifest, histories: Histories, group: Processes) -> None:
    """Raise SettingsError for settings that do not fit the data or the processes."""
    pictures = len(manifest.rows("train"))
    batch, least = min(settings.batch_size, pictures), group.count * settings.accumulate
    if batch < least:
        limited = f", and there are only {pictures} training pictures" if pictures < least else ""
        raise SettingsError(
            f"a batch of {batch} pictures cannot be cut into {least} pieces (processes: {group.count}, accumulate: "
            f"{settings.accumulate}): expected {least} pictures or more{limited}"
        )
    if settings.patience and not len(_held_out(settings, manifest, histories)):
        raise SettingsError(
            "patience needs validation pictures: set --validation-share above 0, or give some rows of the manifest the "
            "split validation (with a history path: of users without training pictures)"
        )


def _start(settings: TrainSettings, data: Path, state: Path, init_from: Path | None, group: Processes) -> Start:
    """Read the data and the state, and make both networks, on the CPU; raises TrainingError."""
    manifest = _read(settings, data)
    histories = build_histories(manifest)
    _check(settings, manifest, histories, group)
    fingerprint = _fingerprint(manifest, init_from)
    saved = load_state(state, settings, fingerprint)
    network, discriminator = _networks(settings, manifest, histories, init_from, saved.weights)
    return Start(
        manifest=manifest,
        histories=histories,
        data=fingerprint,
        saved=saved,
        network=network,
        discriminator=discriminator,
    )


def _facts(start: Start, settings: TrainSettings, options: Options) -> dict[str, str]:
    """What all processes must agree on."""
    return {
        "settings": f"{to_json(settings)} {options.save_every}",
        "data set": start.data,
        "state": str(start.saved.progress),
    }


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
) -> tuple[ALTReco, Discriminator]:
    """Make both networks, with initial weights or those of the saved state."""
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
    return network, discriminator


def _fingerprint(manifest: Manifest, init_from: Path | None) -> str:
    """Hash everything that the result depends on beside the settings."""
    digest = hashlib.sha256()
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
    arguments = parser(__doc__).parse_args()
    names = (field.name for field in fields(Options) if field.name != "quiet")
    try:
        options = Options(**{name: getattr(arguments, name) for name in names})
        settings = settings_of(arguments)
        if arguments.dry_run:
            dry_run(settings, arguments.data, options)
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


if __name__ == "__main__":
    sys.exit(main())
