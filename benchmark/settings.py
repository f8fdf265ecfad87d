"""Settings of the benchmark."""

from dataclasses import dataclass, field

from benchmark.peers.settings import ArrivalSettings, PeerSettings
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
    "shards": "Pictures in tar shards against files",
    "client": "The client against bare tritonclient",
    "gateway": "The HTTP gateway against the client",
    "backfill": "A backfill against the client in threads",
    "canary": "The memory of a candidate beside a release",
    "arrivals": "Short bursts, and random arrivals",
    "peers": "The ensemble against raw ONNX Runtime and other servers",
    "overhead": "Where the lead of raw ONNX Runtime comes from",
}
"""Title of each section, in the order of the report."""

SMALLEST_CACHE = 8 * 1024**2
"""Smallest cache, bytes. The unfolded encodings of the repeated pictures take less than half of it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of all sections. The figures in the docs were measured with the defaults."""

    training: TrainSettings
    """Training settings of the model whose precision@5 is compared."""
    data: SyntheticSettings
    """Data to train and compare it on."""
    preset: str = "paper"
    """Size of the served model. Its weights are random, which does not change its speed."""
    rounds: int = 5
    """Number of rounds. In each, all contestants take a turn, so other work on the machine affects all of them."""
    warmup_s: float = 0.5
    window_s: float = 2.5
    """Measured time of one contestant in one phase and round."""
    clients: int = 4
    """Concurrent clients where throughput is measured."""
    hit_rates: tuple[float, ...] = (0.0, 0.5, 0.9, 1.0)
    cache_size_bytes: int = 64 * 1024**2
    capacity_encodings: int = 100
    """Capacity of the cache that the section `split` fills, in visual encodings."""
    compared_pictures: int = 16
    calibration_pictures: int = 64
    quality_pictures: int = 1000
    client_calls: int = 400
    """Calls per contestant and round."""
    backfill_pictures: int = 512
    """Stored pictures in each turn of the section `backfill`."""
    images: ImageSettings = field(default_factory=ImageSettings)
    arrivals: ArrivalSettings = field(default_factory=ArrivalSettings)
    peers: PeerSettings = field(default_factory=PeerSettings)

    def __post_init__(self) -> None:
        """Raise ExportError for a cache that is too small for the repeated pictures."""
        if self.cache_size_bytes < SMALLEST_CACHE:
            raise ExportError(f"a cache of {self.cache_size_bytes} bytes: expected at least {SMALLEST_CACHE}")


FULL = Settings(training=preset("small"), data=SyntheticSettings(new_users=30))
QUICK = Settings(
    preset="small",
    rounds=1,
    warmup_s=0.1,
    window_s=0.3,
    hit_rates=(0.0, 0.5, 1.0),
    capacity_encodings=20,
    compared_pictures=4,
    calibration_pictures=16,
    quality_pictures=40,
    client_calls=20,
    backfill_pictures=64,
    arrivals=ArrivalSettings(rounds=1, bursts=(2, 3), repeats=1, idle_s=0.1, open_s=1.0, saturating=3, warmup_s=0.1),
    peers=PeerSettings(rounds=1, warmup_s=0.1, window_s=0.3, tuning_s=0.2, clients=(1, 3), ways=1, compared_pictures=2),
    images=ImageSettings(rounds=2, photo=(2000, 1500), enlarged_side=1000, enlarged_pictures=8),
    training=preset("ablation/A1+hier", epochs=1, second_stage_steps=50, validation_share=0.0),
    data=SyntheticSettings(pictures=120, users=6, new_users=3),
)
"""Runs every section, but too briefly for reliable figures."""
