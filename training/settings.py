"""Settings of model and training, kept in the checkpoint as JSON; `presets.py` has named sets of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from altreco_client.contract import IMAGE_SIZE

from training.errors import SettingsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The configuration of a backbone, complete, so that loading a checkpoint needs no hub.

    `config`: its `PretrainedConfig` of `transformers` as JSON values, with `model_type`. `weights`: the hub name or
    local folder of pretrained weights; None for random ones. `mean` and `std` of the pixels, scaled to 0 to 1, per
    channel, and `size`, in pixels: what the backbone was trained on.
    """

    config: Mapping[str, Any]
    weights: str | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    size: int = IMAGE_SIZE

    def __post_init__(self) -> None:
        """Raise SettingsError for pixels that cannot be normalized."""
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std) or self.size < 1:
            raise SettingsError(
                f"pixels of mean {self.mean}, std {self.std} and size {self.size}: expected three means, three "
                "deviations above 0, and a size above 0"
            )


def resnet(
    *,
    embedding_size: int = 64,
    hidden_sizes: tuple[int, ...] = (256, 512, 1024, 2048),
    depths: tuple[int, ...] = (3, 4, 6, 2),
    layer_type: Literal["basic", "bottleneck"] = "bottleneck",
    **changes: object,
) -> BackboneSettings:
    """A ResNet; the default is ResNet-50 up to activation_46, without its last bottleneck (paper, section IV).

    `changes`: more fields of the transformers library's ResNetConfig.
    """
    config = {
        "model_type": "resnet",
        "embedding_size": embedding_size,
        "hidden_sizes": list(hidden_sizes),
        "depths": list(depths),
        "layer_type": layer_type,
        **changes,
    }
    return BackboneSettings(config=config)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The parts of the network and how they are connected.

    `integration`: how e and u_p are combined (section IV b). `skips`: skip connections between U_E and U_D (Table IX).
    `history_path`: "hier" is the path with a population prior. Older checkpoints have no such field, and no path.
    """

    backbone: BackboneSettings = field(default_factory=resnet)
    user_preference: bool = True
    generator: bool = True
    integration: Literal["concatenation", "addition", "multiplication"] = "concatenation"
    skips: bool = True
    history_path: Literal["none", "path", "hier"] = "none"


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The weights of equation 5 and the forms of its terms; `adversarial_on`: the tags that D judges."""

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    theta: float = 1.0
    personalized: Literal["cross_entropy", "softmax", "warp"] = "cross_entropy"
    reconstruction: Literal["huber", "mse"] = "huber"
    adversarial: Literal["non_saturating", "saturating"] = "non_saturating"
    adversarial_on: Literal["generalized", "personalized"] = "generalized"


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training run. The defaults are the paper's (section IV-B), except for leave-one-out histories."""

    preset: str = "paper"
    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: Literal["adadelta", "adamw"] = "adadelta"
    learning_rate: float = 1.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    warmup_steps: int = 0
    """Steps in which the learning rate rises to its constant value; one_cycle has a rise of its own."""
    max_grad_norm: float = 0.0
    """Gradients of a larger Euclidean norm are scaled down to it, for the network and for D apart; 0: never."""
    batch_size: int = 50
    """Pictures per step, in all processes together."""
    accumulate: int = 1
    """Pieces of each process's part of a batch, whose gradients are added up.

    A piece has its own statistics in batch normalization.
    """
    epochs: int = 10
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the forward pass; bf16: autocast; auto: bf16 on a GPU that supports it, else fp32."""
    joint: bool = True
    """False trains U_E and U_D first, for `autoencoder_epochs`, and freezes them (the paper's A3)."""
    autoencoder_epochs: int = 10
    patience: int = 0
    """Stop after this many epochs without a better precision@5 on validation pictures, and keep the best; 0: never."""
    validation_share: float = 0.0
    """Share of the training pictures to hold out if the data set has no validation pictures.

    With a history path, share of the users: held-out pictures of known users do not show when it fails for new users.
    """
    history_dropout: float = 0.0
    """Share of training pictures shown without a history, to train the model for cold starts."""
    include_query_image: bool = False
    """Leave the picture's own tags in its user's history, as in the paper; the input then contains the answer."""
    second_stage_steps: int = 1000
    """Steps of the second stage, which trains the population prior of the history path "hier" alone."""
    cold_start: bool = False
    """Stop early by the figure without history (the paper's A4)."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise SettingsError for values that cannot train."""
        positive = ("batch_size", "accumulate", "epochs", "learning_rate", "autoencoder_epochs", "second_stage_steps")
        for name in positive:
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: expected more than 0")
        for name in ("history_dropout", "validation_share"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: expected 0 up to 1")
        for name, off in (("patience", "never stop early"), ("warmup_steps", "none"), ("max_grad_norm", "no limit")):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} is {getattr(self, name)}: expected 0 ({off}) or more")
        if self.warmup_steps and self.schedule == "one_cycle":
            raise SettingsError(
                f"warmup_steps is {self.warmup_steps}, but the schedule one_cycle has a rise of its own"
            )
        _check_parts(self)


def _check_parts(settings: TrainSettings) -> None:
    """Check that each loss has the part of the network that it trains, and each part a loss."""
    model, loss = settings.model, settings.loss
    if not loss.alpha > 0:
        raise SettingsError(f"alpha is {loss.alpha}: expected more than 0, or nothing trains what is served")
    of_generator = {"beta": loss.beta}
    if loss.adversarial_on == "generalized":
        of_generator["theta"] = loss.theta
    if model.generator != any(of_generator.values()):
        raise SettingsError(f"generator is {model.generator}, the weights of its losses are {of_generator}")
    if model.user_preference != bool(loss.gamma):
        raise SettingsError(f"user_preference is {model.user_preference}, the weight of its loss gamma is {loss.gamma}")
    if model.history_path == "hier" and model.integration == "multiplication":
        raise SettingsError("the second stage of hier needs concatenation or addition, integration is multiplication")
    if not (settings.joint or model.user_preference):
        raise SettingsError("joint=False trains the auto-encoder first, but there is none: user_preference is False")


def to_json(settings: TrainSettings) -> str:
    """Return the settings as JSON."""
    return json.dumps(asdict(settings))


def from_json(text: str) -> TrainSettings:
    """Return the settings that `to_json` wrote; raises SettingsError if fields are missing or unknown.

    Fields with a default may be missing: settings from before they existed keep their meaning.
    """
    try:
        values = json.loads(text)
        model = values["model"]
        # JSON has no tuples.
        backbone: dict[str, Any] = {
            name: tuple(value) if name in ("mean", "std") else value for name, value in model["backbone"].items()
        }
        values["model"] = ModelSettings(**{**model, "backbone": BackboneSettings(**backbone)})
        values["loss"] = LossSettings(**values["loss"])
        return TrainSettings(**values)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise SettingsError(f"these are not this version's training settings: {error}") from error
