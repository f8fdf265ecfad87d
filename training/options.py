"""The options of `python -m training.train`."""

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path

from training.errors import SettingsError
from training.model import pretrained_backbone
from training.presets import describe_presets, preset
from training.settings import TrainSettings

PRESETS = "instead of the preset's"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that do not change the result.

    `workers`: processes that read pictures; 0 reads them in this one. `save_every`: steps between saved states; None:
    as often as 1 % of the time allows. `max_bad_pictures`: the share of the pictures that may be unreadable.
    """

    workers: int = 2
    device: str = "auto"
    save_every: int | None = None
    max_bad_pictures: float = 0.001
    quiet: bool = False

    def __post_init__(self) -> None:
        """Raise SettingsError for values that make no sense."""
        if self.save_every is not None and self.save_every < 1:
            raise SettingsError(f"save_every is {self.save_every}: expected 1 step or more")
        if not 0 <= self.max_bad_pictures < 1:
            raise SettingsError(f"max_bad_pictures is {self.max_bad_pictures}: expected a share, 0 up to 1")


DEFAULT = Options()


def settings_of(arguments: argparse.Namespace) -> TrainSettings:
    """Return the preset with the command line's changes."""
    names = {field.name for field in fields(TrainSettings)} - {"preset"}
    changes = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    settings = preset(arguments.preset, **changes)
    if arguments.backbone is not None:
        settings = replace(settings, model=replace(settings.model, backbone=pretrained_backbone(arguments.backbone)))
    return settings


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m training.train", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--data", type=Path, required=True, help="data set folder with manifest.parquet")
    made.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    made.add_argument("--preset", default="paper", help=f"{describe_presets()} (default: %(default)s)")
    made.add_argument("--backbone", help="pretrained: a name on the Hugging Face hub, or a local folder")
    made.add_argument("--init-from", type=Path, help="fine-tune this checkpoint; its vocabulary may differ")
    made.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="auto: bf16 on a GPU, else fp32")
    made.add_argument("--optimizer", choices=("adadelta", "adamw"), help=PRESETS)
    made.add_argument("--schedule", choices=("constant", "one_cycle"), help="of the learning rate")
    made.add_argument("--warmup-steps", type=int, help="steps in which a constant learning rate rises at first")
    made.add_argument("--max-grad-norm", type=float, help="scale larger gradients down to this norm; 0: never")
    for name, kind in (("epochs", int), ("learning-rate", float), ("seed", int)):
        made.add_argument(f"--{name}", type=kind, help=PRESETS)
    made.add_argument("--batch-size", type=int, help="pictures of a step in all processes together")
    made.add_argument("--accumulate", type=int, help="pieces of a process's part of the batch, to save memory")
    made.add_argument("--patience", type=int, help="epochs without a better validation figure; 0 never stops early")
    made.add_argument("--validation-share", type=float, help="share of training pictures to hold out for --patience")
    made.add_argument("--second-stage-steps", type=int, help="steps that train the population prior (variants hier)")
    made.add_argument("--workers", type=int, default=DEFAULT.workers, help="processes that read pictures")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default=DEFAULT.device, help="auto: a GPU if any")
    made.add_argument("--save-every", type=int, help="steps between saved states (default: 1 %% of the time)")
    made.add_argument(
        "--max-bad-pictures",
        type=float,
        default=DEFAULT.max_bad_pictures,
        help="share of the pictures that may be unreadable; others take their place (%(default)s)",
    )
    made.add_argument("--fresh", action="store_true", help="start over, and discard the state of an unfinished run")
    made.add_argument("--dry-run", action="store_true", help="print data, memory, steps and speed, and stop")
    return made
