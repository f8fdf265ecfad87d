"""Named settings: a size (paper, small, ablation) and, after a slash, a variant: `small/A3`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from training.errors import SettingsError
from training.settings import LossSettings, ModelSettings, TrainSettings, resnet

FULL = "A6"
"""The paper's full model."""

SERVED = "A1+hier"
"""The variant of `small` without a slash: what the demo trains and serves, as docs/ablation.md advises.

On the demo's data its precision@5 is 0.633 for known and 0.667 for new users, and that of late fusion 0.637 and 0.656
(one seed).
"""


def paper() -> TrainSettings:
    """Return ResNet-50 with the settings of section IV-B; it trains until validation precision stops improving."""
    return TrainSettings(epochs=50, patience=3, validation_share=0.02)


def _narrow(*, embedding_size: int, depths: tuple[int, ...]) -> ModelSettings:
    """Return a model with a narrow ResNet at half the resolution."""
    backbone = resnet(
        embedding_size=embedding_size,
        hidden_sizes=(32, 64, 128, 256),
        depths=depths,
        layer_type="basic",
        downsample_in_first_stage=True,
    )
    return ModelSettings(backbone=backbone)


def small() -> TrainSettings:
    """Return the demo's settings: a narrow ResNet at half the resolution, which 2 CPU cores train in a few minutes."""
    return TrainSettings(
        preset="small",
        model=_narrow(embedding_size=32, depths=(2, 2, 2, 1)),
        loss=LossSettings(theta=1e-4),
        optimizer="adamw",
        batch_size=25,
        learning_rate=1.5e-3,
        schedule="one_cycle",
        epochs=3,
        history_dropout=0.15,
    )


def ablation() -> TrainSettings:
    """Return `small` with a shallower ResNet, so that a hundred runs take two hours."""
    return replace(
        small(),
        preset="ablation",
        model=_narrow(embedding_size=16, depths=(1, 1, 1, 1)),
        epochs=2,
        validation_share=0.05,
    )


SIZES: dict[str, Callable[[], TrainSettings]] = {"paper": paper, "small": small, "ablation": ablation}


def _a1(full: TrainSettings) -> TrainSettings:
    """Return A1: only the visual net, with cross-entropy."""
    model = replace(full.model, user_preference=False, generator=False)
    return replace(full, model=model, loss=replace(full.loss, beta=0.0, gamma=0.0, theta=0.0))


def _a2(full: TrainSettings) -> TrainSettings:
    """Return A2: with user preference, joint, but neither G nor D."""
    return replace(full, model=replace(full.model, generator=False), loss=replace(full.loss, beta=0.0, theta=0.0))


def _loss(**changes: Any) -> Callable[[TrainSettings], TrainSettings]:
    return lambda full: replace(full, loss=replace(full.loss, **changes))


def _ranking(loss: str) -> Callable[[TrainSettings], TrainSettings]:
    """Return the visual net with a ranking loss in place of cross-entropy (Gong et al., Table V)."""
    return lambda full: _loss(personalized=loss)(_a1(full))


def _autoencoder(*, skips: bool, reconstruction: str) -> Callable[[TrainSettings], TrainSettings]:
    """Return a row of Table IX; skips with Huber are the full model."""
    return lambda full: _loss(reconstruction=reconstruction)(replace(full, model=replace(full.model, skips=skips)))


def _integration(name: Literal["addition", "multiplication"]) -> Callable[[TrainSettings], TrainSettings]:
    return lambda full: replace(full, model=replace(full.model, integration=name))


def _with_path(settings: TrainSettings, path: Literal["path", "hier"]) -> TrainSettings:
    return replace(settings, model=replace(settings.model, history_path=path))


VARIANTS: dict[str, Callable[[TrainSettings], TrainSettings]] = {
    "A1": _a1,
    "A2": _a2,
    "A3": lambda full: replace(full, joint=False),
    "A4": lambda full: replace(full, cold_start=True),
    "A5": _loss(adversarial_on="personalized"),
    "A6": lambda full: full,
    "A1+path": lambda full: _with_path(_a1(full), "path"),
    "A6+path": lambda full: _with_path(full, "path"),
    "A1+hier": lambda full: _with_path(_a1(full), "hier"),
    "A6+hier": lambda full: _with_path(full, "hier"),
    "no-skips-mse": _autoencoder(skips=False, reconstruction="mse"),
    "skips-mse": _autoencoder(skips=True, reconstruction="mse"),
    "no-skips-huber": _autoencoder(skips=False, reconstruction="huber"),
    "addition": _integration("addition"),
    "multiplication": _integration("multiplication"),
    "no-adversary": _loss(theta=0.0),
    "equal-weights": _loss(alpha=1.0, beta=1.0, gamma=1.0, theta=1.0),
    "saturating": _loss(adversarial="saturating"),
    "query-included": lambda full: replace(full, include_query_image=True),
    "softmax": _ranking("softmax"),
    "warp": _ranking("warp"),
}
"""Tables VII to IX, section IV b, and what this project adds: changes of the full model."""


def preset(name: str, **changes: Any) -> TrainSettings:
    """Return the named preset with `changes`; raises SettingsError for an unknown name."""
    size, _, variant = name.partition("/")
    variant = variant or (SERVED if size == "small" else FULL)
    if size not in SIZES or variant not in VARIANTS:
        raise SettingsError(f"unknown preset {name!r}: expected {describe_presets()}")
    return replace(VARIANTS[variant](SIZES[size]()), preset=name, **changes)


def describe_presets() -> str:
    """List the names of presets, for messages and --help."""
    variants = ", ".join(f"/{variant}" for variant in VARIANTS)
    return f"one of {', '.join(SIZES)}, alone ({FULL}; small: {SERVED}) or with one of {variants}"
