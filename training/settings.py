"""Settings of model and training, and the presets that name them. They travel inside the checkpoint as JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from training.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """A ResNet of `transformers`; the default is ResNet-50 up to activation_46 (paper, section IV)."""

    embedding_size: int = 64
    hidden_sizes: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 2)
    layer_type: Literal["basic", "bottleneck"] = "bottleneck"


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The shape of the network; `skips` between U_E and U_D is Table IX's option."""

    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    skips: bool = True


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Weights of equation 5 and the forms of its terms."""

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    theta: float = 1.0
    reconstruction: Literal["huber", "mse"] = "huber"
    adversarial: Literal["non_saturating", "saturating"] = "non_saturating"


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training run. The defaults are the paper's (section IV-B) but for leave-one-out histories."""

    preset: str = "paper"
    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: Literal["adadelta", "adamw"] = "adadelta"
    learning_rate: float = 1.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: int = 50
    epochs: int = 10
    history_dropout: float = 0.0
    """Share of training pictures shown without a history, so that cold start is something the model has seen."""
    include_query_image: bool = False
    """The paper's histories: the picture's own tags stay in its user's history (the answer leaks into the input)."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise SettingsError for values that cannot train."""
        for name in ("batch_size", "epochs", "learning_rate"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: expected more than 0")
        if not 0 <= self.history_dropout < 1:
            raise SettingsError(f"history_dropout is {self.history_dropout!r}: expected 0 up to 1")


def paper() -> TrainSettings:
    """ResNet-50 and the settings of section IV-B."""
    return TrainSettings()


def small() -> TrainSettings:
    """A narrow ResNet that 2 CPU cores train in a couple of minutes: the demo's."""
    backbone = BackboneSettings(
        embedding_size=32, hidden_sizes=(32, 64, 128, 256), depths=(2, 2, 2, 1), layer_type="basic"
    )
    return TrainSettings(
        preset="small",
        model=ModelSettings(backbone=backbone),
        loss=LossSettings(theta=1e-4),
        optimizer="adamw",
        batch_size=25,
        learning_rate=1.5e-3,
        schedule="one_cycle",
        epochs=3,
        history_dropout=0.15,
    )


PRESETS: dict[str, Callable[[], TrainSettings]] = {"paper": paper, "small": small}


def preset(name: str, **changes: Any) -> TrainSettings:
    """The named preset with single settings replaced; raises SettingsError for an unknown name."""
    if name not in PRESETS:
        raise SettingsError(f"unknown preset {name!r}: expected one of {', '.join(sorted(PRESETS))}")
    return replace(PRESETS[name](), **changes)


def to_json(settings: TrainSettings) -> str:
    """The settings as JSON."""
    return json.dumps(asdict(settings))


def from_json(text: str) -> TrainSettings:
    """The settings that `to_json` wrote; raises SettingsError when fields are missing or unknown."""
    try:
        values = json.loads(text)
        backbone = values["model"].pop("backbone")
        backbone = {k: tuple(v) if isinstance(v, list) else v for k, v in backbone.items()}
        values["model"] = ModelSettings(backbone=BackboneSettings(**backbone), **values["model"])
        values["loss"] = LossSettings(**values["loss"])
        return TrainSettings(**values)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise SettingsError(f"these are not this version's training settings: {error}") from error
