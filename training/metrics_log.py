"""Scalars of a training run for TensorBoard, and the same as curves in a PNG."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from measure.pictures import new_figure
from training import figures
from training.errors import TrainingError


class MetricsLog:
    """Writes scalars to `folder`, or nothing if it is None, as in all processes but the first."""

    def __init__(self, folder: Path | None, *, from_step: int) -> None:
        """Continue at `from_step`, and drop what an interrupted run wrote after it; 0 starts anew.

        Raises TrainingError if the folder cannot be written, such as where the run's output is redirected to its name.
        """
        if folder is not None and from_step == 0:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            self._writer = None if folder is None else SummaryWriter(str(folder), purge_step=from_step + 1)
        except OSError as error:
            raise TrainingError(
                f"cannot write TensorBoard's folder: {error}; choose another --out, or free the name"
            ) from error

    def add(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Write each value as `group/name`."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def note(self, text: str, step: int) -> None:
        """Write a remark on the run."""
        if self._writer is not None:
            self._writer.add_text("run", text, step)

    def flush(self) -> None:
        """Flush to disk."""
        if self._writer is not None:
            self._writer.flush()

    def __enter__(self) -> "MetricsLog":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Flush, and end the writer's thread."""
        if self._writer is not None:
            self._writer.close()


def write_curves(folder: Path, out: Path) -> None:
    """Plot each scalar of `folder` over its steps in a panel of a PNG, written atomically; raises TrainingError."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of what a run that went on has dropped
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    names = events.Tags()["scalars"]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3 * rows, 5 * columns)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, name in zip(axes, names, strict=False):
        scalars = events.Scalars(name)
        axis.set_axis_on()
        axis.plot([s.step for s in scalars], [s.value for s in scalars], color=figures.HIT, linewidth=1.2)
        axis.set_title(name, fontsize=10, loc="left")
        axis.set_xlabel("step", fontsize=8)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figures.save(figure, out)
