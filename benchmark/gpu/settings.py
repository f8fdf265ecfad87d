"""Stages and settings of the measurements on a GPU."""

from dataclasses import dataclass, field

from altreco_client import contract

from benchmark.settings import FULL, Settings
from export.manifest import Precision
from training.data.synthetic import SyntheticSettings

STAGES = {
    "check": "The machine",
    "raw": "Raw ONNX Runtime",
    "tensorrt": "TensorRT",
    "served": "Served against raw ONNX Runtime",
    "batching": "Dynamic batching",
    "instances": "Instances of the visual encoder",
    "rates": "Latency at fixed rates",
    "cache": "Cache hits",
    "copies": "The cost of copies",
    "training": "Training",
}
"""Title of each stage, in the order in which they run."""

LIMIT_S = 8 * 60.0
"""Longest time of a stage: no round begins that would end later."""


@dataclass(frozen=True, kw_only=True)
class GpuSettings:
    """Settings of all stages. `load` has the closed loads: windows, rounds, clients, hit rates, cache."""

    load: Settings
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    batches: tuple[int, ...] = (1, 8, 32)
    """Pictures per call of raw ONNX Runtime."""
    request: int = 32
    """Pictures in a large request: the most that the ensemble takes."""
    request_clients: int = 8
    instances: tuple[int, ...] = (1, 2, 3, 4)
    rates_per_s: tuple[float, ...] = (25, 50, 100, 200, 400, 800)
    rate_s: float = 20.0
    """Time of each rate."""
    rate_callers: int = 64
    slow_ms: float = 1000.0
    """After a p99 above this, no higher rate is tried."""
    workers: tuple[int, ...] = (0, 4, 16)
    """Numbers of processes that read training pictures."""
    training_preset: str = "paper"
    training_batch: int = 50
    data: SyntheticSettings = field(default_factory=lambda: SyntheticSettings(pictures=600, users=12))


GPU = GpuSettings(
    load=Settings(training=FULL.training, data=FULL.data, rounds=3, warmup_s=1.0, window_s=4.0, clients=64)
)
TINY = GpuSettings(
    load=Settings(
        training=FULL.training,
        data=FULL.data,
        preset="ablation",
        rounds=1,
        warmup_s=0.1,
        window_s=0.3,
        clients=3,
        hit_rates=(0.0, 1.0),
    ),
    batches=(1, 2),
    request=2,
    request_clients=2,
    instances=(2,),
    rates_per_s=(4, 8),
    rate_s=1.0,
    rate_callers=4,
    workers=(0,),
    training_preset="ablation",
    training_batch=4,
    data=SyntheticSettings(pictures=40, users=4),
)
"""All stages on a CPU, too small and too brief for reliable figures."""

ENCODER = contract.VISUAL_ENCODER.name
