"""The runs on one data set. A run is a process of its own with a JSON file as its result, so that a study can continue.

`python -m training.ablation.study STUDY RUN SEED` does one run; `python -m training.ablation` all of them.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from measure.files import write_text
from training.ablation.backbones import folder_of
from training.checkpoint import load_checkpoint
from training.data.histories import build_histories
from training.data.manifest import hold_out_as, read_manifest
from training.distributed import processes
from training.errors import SettingsError, TrainingError
from training.evaluate import Metrics
from training.methods.compare import RUNS
from training.methods.task import Task
from training.model import pretrained_backbone
from training.options import Options
from training.presets import preset
from training.settings import TrainSettings, from_json, to_json
from training.train import train

VISUAL_NET = "A1"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What all runs on one data set share.

    `backbone`: hub name or folder of pretrained weights; "" starts from random ones. `work`: folder of the results.
    """

    size: str
    data: str
    work: str
    backbone: str
    epochs: int
    workers: int
    device: str

    def settings(self, run: str, seed: int) -> TrainSettings:
        """The settings of one training run; of a method, those of the visual net that it uses.

        After an @, a run names one of `backbones.OTHERS`.
        """
        variant, _, other = (VISUAL_NET if run in RUNS else run).partition("@")
        settings = preset(f"{self.size}/{variant}", seed=seed, epochs=self.epochs)
        if self.backbone:
            backbone = folder_of(self.backbone, other) if other else self.backbone
            model = replace(settings.model, backbone=pretrained_backbone(backbone))
            settings = replace(settings, model=model)
        return settings

    def result(self, run: str, seed: int) -> Path:
        """Where the run's result is, or will be."""
        return Path(self.work) / f"{run}-{seed}.json"

    def is_done(self, run: str, seed: int) -> bool:
        """Whether there is a result of these settings; one from before an option existed has its default."""
        path = self.result(run, seed)
        if not path.exists():
            return False
        described, start = json.loads(path.read_text())["settings"], f"{self.data} {run} "
        try:
            return described.startswith(start) and from_json(described[len(start) :]) == self.settings(run, seed)
        except SettingsError:
            return False

    def metrics(self, run: str, seed: int) -> Metrics:
        """The result of a finished run."""
        return json.loads(self.result(run, seed).read_text())["metrics"]

    def seconds(self, run: str, seed: int) -> float:
        """How long a finished run took."""
        return json.loads(self.result(run, seed).read_text())["seconds"]

    def carry_out(self, run: str, seed: int) -> None:
        """Do the run and write its result; raises TrainingError."""
        start = time.monotonic()
        settings = self.settings(run, seed)
        if run in RUNS:
            with processes(self.device) as group:
                metrics = RUNS[run](self._task(settings, group.device))
        else:
            options = Options(workers=self.workers, device=self.device)
            metrics = train(settings, Path(self.data), self._checkpoint(run, seed), options=options).metrics
        content = {"settings": self._described(run, seed), "seconds": time.monotonic() - start, "metrics": metrics}
        write_text(self.result(run, seed), json.dumps(content))

    def _task(self, settings: TrainSettings, device: torch.device) -> Task:
        manifest = hold_out_as(read_manifest(Path(self.data)), settings)
        visual_net = load_checkpoint(self._checkpoint(VISUAL_NET, settings.seed)).model
        return Task(visual_net, manifest, build_histories(manifest), settings, device, self.workers)

    def _checkpoint(self, variant: str, seed: int) -> Path:
        return self.result(variant, seed).with_suffix(".pt")

    def _described(self, run: str, seed: int) -> str:
        """Everything that decides a result."""
        return f"{self.data} {run} {to_json(self.settings(run, seed))}"


def main() -> int:
    """One run; 0, or 1 with the reason on stderr."""
    study, run, seed = sys.argv[1:]
    try:
        Study(**json.loads(study)).carry_out(run, int(seed))
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def command(study: Study, run: str, seed: int) -> list[str]:
    """The command line that `main` takes."""
    return [sys.executable, "-m", "training.ablation.study", json.dumps(asdict(study)), run, str(seed)]


if __name__ == "__main__":
    sys.exit(main())
