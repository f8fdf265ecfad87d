"""Settings of `config.pbtxt` that a sweep changes, and repositories that differ only in them.

Configs are read and written as protobuf. The variants lose their comments: they are only measured, then deleted.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from altreco_client import contract
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from loadtest.errors import LoadtestError
from loadtest.parse import parse, read_toml
from measure.files import write_text

CONFIG_FILE = "config.pbtxt"
THREADS = "intra_op_thread_count"
"""Parameter of Triton's native onnxruntime backend and of the one in deploy/local."""

Value = bool | int | tuple[int, ...]
Point = Mapping[str, Value]
"""Values by `MODEL.SETTING`; other settings stay as committed."""


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """Values to try for each setting of one model; a setting without values is not changed."""

    instances_and_threads: tuple[tuple[int, int], ...] = ()
    """Pairs of both, as they share the cores; replaces the next two."""
    instances: tuple[int, ...] = ()
    """0: Triton chooses, one per GPU or two on the CPU."""
    threads: tuple[int, ...] = ()
    """Threads of ONNX Runtime within an operator; 0: it chooses, one per core."""
    dynamic_batching: tuple[bool, ...] = ()
    max_queue_delay_us: tuple[int, ...] = ()
    preferred_batch_sizes: tuple[tuple[int, ...], ...] = ()
    cache: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        for name in ("instances", "threads", "max_queue_delay_us"):
            if min(getattr(self, name), default=0) < 0:
                raise ValueError(f"{name} is {list(getattr(self, name))}, expected 0 or more")
        if self.instances_and_threads and (self.instances or self.threads):
            raise ValueError("instances_and_threads replaces instances and threads: give one or the others")
        if min((count for pair in self.instances_and_threads for count in pair), default=0) < 0:
            raise ValueError(f"instances_and_threads is {list(self.instances_and_threads)}, expected 0 or more")
        if any(size < 1 for sizes in self.preferred_batch_sizes for size in sizes):
            raise ValueError("preferred_batch_sizes has a size below 1")


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """Values to try, model by model in this order."""

    visual_encoder: ModelPlan = ModelPlan()
    preference_encoder: ModelPlan = ModelPlan()
    classifier: ModelPlan = ModelPlan()

    def values(self) -> dict[str, tuple[Value, ...]]:
        """Return the values to try by `MODEL.SETTING`."""
        return {
            f"{model.name}.{setting}": tuple(values)
            for model in contract.COMPONENTS
            for setting in SETTINGS
            if (values := getattr(getattr(self, model.name), setting))
        }


@dataclass(frozen=True)
class Setting:
    """Reader and writer of a setting in a config."""

    read: Callable[[pb.ModelConfig], Value]
    write: Callable[[pb.ModelConfig, Any], None]


def load_plan(path: Path) -> SweepPlan:
    """Read and check a plan; raises LoadtestError."""
    plan = parse(SweepPlan, read_toml(path, "sweep"), file=str(path))
    if not plan.values():
        raise LoadtestError(f"{path} has no values to try, expected {', '.join(SETTINGS)} of a model")
    return plan


def committed(repository: Path, plan: SweepPlan) -> Point:
    """Read the committed values of all settings in the plan; raises LoadtestError."""
    point = {}
    for key in plan.values():
        model, setting = key.split(".")
        point[key] = SETTINGS[setting].read(read_config(repository / model / CONFIG_FILE))
    return point


def write_variant(repository: Path, destination: Path, point: Point) -> Path:
    """Write a repository with these settings that links to the weights of the other; raises LoadtestError."""
    for model in sorted(path.parent for path in repository.glob(f"*/{CONFIG_FILE}")):
        folder = destination / model.name
        folder.mkdir(parents=True)
        for entry in model.iterdir():
            if entry.name != CONFIG_FILE:
                (folder / entry.name).symlink_to(entry.resolve())
        config = read_config(model / CONFIG_FILE)
        apply(config, model.name, point)
        write_text(folder / CONFIG_FILE, text_format.MessageToString(config))
    return destination


def read_config(path: Path) -> pb.ModelConfig:
    """Parse one file; raises LoadtestError."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
    except OSError as error:
        raise LoadtestError(f"cannot read {path}: {error.strerror}; expected a Triton model repository") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise LoadtestError(f"{path} is not a valid model config: {error}") from error


def apply(config: pb.ModelConfig, model: str, point: Point) -> None:
    """Apply the settings of a model to its config, `dynamic_batching` last because it may clear others."""
    for setting in sorted(SETTINGS, key="dynamic_batching".__eq__):
        if f"{model}.{setting}" in point:
            SETTINGS[setting].write(config, point[f"{model}.{setting}"])


def label(value: Value) -> str:
    """Format a value as in TOML."""
    return json.dumps(value)


def has_effect(key: str, point: Point) -> bool:
    """Return whether the setting has an effect: batching settings have none while batching is off."""
    model, setting = key.split(".")
    return setting not in BATCHING or bool(point.get(f"{model}.dynamic_batching", True))


def _write_instances(config: pb.ModelConfig, count: int) -> None:
    config.ClearField("instance_group")
    if count:
        config.instance_group.add(count=count)  # without a kind: on the GPU if there is one


def _read_instances(config: pb.ModelConfig) -> int:
    return sum(group.count for group in config.instance_group)


def _read_threads(config: pb.ModelConfig) -> int:
    return int(config.parameters[THREADS].string_value) if THREADS in config.parameters else 0


def _write_threads(config: pb.ModelConfig, count: int) -> None:
    config.parameters.pop(THREADS, None)
    if count:
        config.parameters[THREADS].string_value = str(count)


def _write_both(config: pb.ModelConfig, both: tuple[int, int]) -> None:
    _write_instances(config, both[0])
    _write_threads(config, both[1])


def _write_batching(config: pb.ModelConfig, on: bool) -> None:
    if on:
        config.dynamic_batching.SetInParent()
    else:
        config.ClearField("dynamic_batching")


def _write_delay(config: pb.ModelConfig, delay_us: int) -> None:
    config.dynamic_batching.max_queue_delay_microseconds = delay_us


def _write_sizes(config: pb.ModelConfig, sizes: tuple[int, ...]) -> None:
    config.dynamic_batching.preferred_batch_size[:] = sizes


def _write_cache(config: pb.ModelConfig, on: bool) -> None:
    config.response_cache.enable = on


SETTINGS = {
    "instances_and_threads": Setting(lambda config: (_read_instances(config), _read_threads(config)), _write_both),
    "instances": Setting(_read_instances, _write_instances),
    "threads": Setting(_read_threads, _write_threads),
    "dynamic_batching": Setting(lambda config: config.HasField("dynamic_batching"), _write_batching),
    "max_queue_delay_us": Setting(lambda config: config.dynamic_batching.max_queue_delay_microseconds, _write_delay),
    "preferred_batch_sizes": Setting(lambda config: tuple(config.dynamic_batching.preferred_batch_size), _write_sizes),
    "cache": Setting(lambda config: config.response_cache.enable, _write_cache),
}
"""Settings by name, as in ModelPlan."""

BATCHING = ("max_queue_delay_us", "preferred_batch_sizes")

assert [field.name for field in fields(ModelPlan)] == [*SETTINGS]
