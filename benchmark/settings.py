"""How much is measured."""

from dataclasses import dataclass, field

from benchmark.peers.settings import PeerSettings
from benchmark.sections.images import ImageSettings
from export.errors import ExportError
from training.data.synthetic import SyntheticSettings
from training.presets import preset
from training.settings import TrainSettings

SECTIONS = {
    "split": "The folded split against the unfolded one",
    "precision": "int8 against fp32",
    "quality": "Tags of every precision",
    "cache": "Repeat pictures against new ones",
    "images": "JPEGs at reduced scale against whole",
    "client": "The client against bare tritonclient",
    "peers": "The ensemble against raw ONNX Runtime and other servers",
}
"""Name to title, in the order of the report."""

SMALLEST_CACHE = 8 * 1024**2
"""Bytes; the unfolded encodings of the pictures that are repeated take less than half of it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of all sections; the defaults are those of the figures in the docs."""

    training: TrainSettings
    """Of the model whose precision@5 is compared."""
    data: SyntheticSettings
    """What it is trained and compared on."""
    preset: str = "paper"
    """Of the served model, whose weights are random: they do not change how long it takes."""
    rounds: int = 5
    """In each, all contestants take their turn, so that what happens to the machine meanwhile happens to all."""
    warmup_s: float = 0.5
    window_s: float = 2.5
    """Of measuring: one contestant, one phase, one round."""
    clients: int = 4
    """At once, where throughput is measured."""
    hit_rates: tuple[float, ...] = (0.0, 0.5, 0.9, 1.0)
    cache_size_bytes: int = 64 * 1024**2
    capacity_encodings: int = 100
    """Size of the cache that is filled to see how many it holds, in visual encodings of the split."""
    capacity_sizes: tuple[int, ...] = (1024**2, 4 * 1024**2)
    """Bytes; of the caches that are filled to see how many pictures they hold."""
    compared_pictures: int = 16
    calibration_pictures: int = 64
    quality_pictures: int = 1000
    client_calls: int = 400
    """Of each contestant, in each round."""
    images: ImageSettings = field(default_factory=ImageSettings)
    peers: PeerSettings = field(default_factory=PeerSettings)

    def __post_init__(self) -> None:
        """Raise ExportError for a cache that cannot hold the pictures that are asked for again."""
        if self.cache_size_bytes < SMALLEST_CACHE:
            raise ExportError(f"a cache of {self.cache_size_bytes} bytes: expected at least {SMALLEST_CACHE}")


FULL = Settings(training=preset("small"), data=SyntheticSettings())
QUICK = Settings(
    preset="small",
    rounds=2,
    warmup_s=0.1,
    window_s=0.3,
    hit_rates=(0.0, 0.5, 1.0),
    capacity_encodings=20,
    capacity_sizes=(256 * 1024,),
    compared_pictures=4,
    calibration_pictures=16,
    quality_pictures=40,
    client_calls=20,
    peers=PeerSettings(rounds=1, warmup_s=0.1, window_s=0.3, tuning_s=0.2, clients=(1, 3), compared_pictures=2),
    images=ImageSettings(rounds=2, photo=(2000, 1500), enlarged_side=1000, enlarged_pictures=8),
    training=preset("small", epochs=1),
    data=SyntheticSettings(pictures=120, users=6),
)
"""Does everything, and measures nothing well."""
