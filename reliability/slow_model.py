"""A repository whose visual encoder waits instead of computing, so that its server leaves the cores to its clients."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format

from deploy.local.environment import BACKEND_SOURCES
from export.config import CONFIG_FILE, parse_config

ENCODER = Path(__file__).with_name("slow_encoder.py")


@dataclass(frozen=True)
class SlowModel:
    """A repository whose visual encoder takes a given time, and notes which requests it worked on."""

    repository: Path

    def take(self, seconds: float) -> None:
        """Set the time that each batch takes, s, including one that is being computed."""
        new = self._folder / "new"
        new.write_text(str(seconds))
        new.rename(self._folder / "seconds")

    def executed(self) -> list[str]:
        """Return the ids of the requests that were executed, in order."""
        return (self._folder / "executed").read_text().splitlines()

    @property
    def _folder(self) -> Path:
        return self.repository / "visual_encoder" / "1"


def slow_repository(source: Path, destination: Path, *, queue_timeout_s: float | None = None) -> SlowModel:
    """Copy the repository of release 1 with one instance of the slow encoder.

    `queue_timeout_s`: timeout of its queue, which it does not have otherwise.
    """
    shutil.copytree(source, destination)
    config = parse_config(destination / "visual_encoder" / CONFIG_FILE)
    config.backend = "python"
    config.ClearField("response_cache")
    config.ClearField("model_warmup")
    if queue_timeout_s is not None:
        config.dynamic_batching.default_queue_policy.default_timeout_microseconds = round(queue_timeout_s * 1e6)
    (destination / "visual_encoder" / CONFIG_FILE).write_text(text_format.MessageToString(config))
    folder = destination / "visual_encoder" / "1"
    shutil.rmtree(folder)
    folder.mkdir()
    shutil.copy(ENCODER, folder / "model.py")
    shutil.copy(BACKEND_SOURCES / "triton_tensors.py", folder)
    (folder / "executed").touch()
    model = SlowModel(destination)
    model.take(0)
    return model
