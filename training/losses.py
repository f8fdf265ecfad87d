"""The losses of the paper, equations 1 to 7, on logits."""

import torch
from torch import Tensor
from torch.nn import functional

from training.model import Discriminator, Prediction
from training.settings import LossSettings

JITTER_ETA = 0.7
JITTER_IOTA = 0.3
"""eta and iota of equation 7."""


def network_losses(
    prediction: Prediction, tags: Tensor, history: Tensor, discriminator: Discriminator, settings: LossSettings
) -> dict[str, Tensor]:
    """L_p, L_g, L_r, L_adv and their weighted sum L_t (equation 5, as "total"), scalars.

    `tags` and `history` are float [batch, N]. The minus sign of equation 1 is left out: with it the
    reconstruction would be made worse.
    """
    losses = {
        "personalized": functional.binary_cross_entropy_with_logits(prediction.personalized, tags),  # eq. 2
        "generalized": functional.binary_cross_entropy_with_logits(prediction.generalized, tags),  # eq. 4
        "reconstruction": _reconstruction(torch.sigmoid(prediction.history), history, settings),
        "adversarial": _adversarial(discriminator(torch.sigmoid(prediction.generalized)), settings),
    }
    weights = (settings.alpha, settings.beta, settings.gamma, settings.theta)
    weighted = [weight * loss for weight, loss in zip(weights, losses.values(), strict=True)]
    return {**losses, "total": torch.stack(weighted).sum()}


def discriminator_loss(generalized: Tensor, tags: Tensor, discriminator: Discriminator) -> Tensor:
    """Equation 6 as a loss to minimize; `generalized` are G's logits, cut off from G's gradient."""
    real = discriminator(jitter(tags))
    fake = discriminator(torch.sigmoid(generalized.detach()))
    return -(functional.logsigmoid(real).mean() + functional.logsigmoid(-fake).mean())


def jitter(tags: Tensor) -> Tensor:
    """Equation 7: 0/1 labels to confidences in [0.7, 1.0] and [0.0, 0.3], so that D cannot tell by round numbers."""
    return tags * JITTER_ETA + torch.rand_like(tags) * JITTER_IOTA


def _reconstruction(reconstructed: Tensor, history: Tensor, settings: LossSettings) -> Tensor:
    """Equation 1 with delta = 1, or MSE."""
    if settings.reconstruction == "huber":
        return functional.huber_loss(reconstructed, history, delta=1.0)
    return functional.mse_loss(reconstructed, history)


def _adversarial(fake: Tensor, settings: LossSettings) -> Tensor:
    """Equation 3, log(1 - D(G(e))), saturates where D is sure; -log D(G(e)) has the same fixed point and does not."""
    if settings.adversarial == "saturating":
        return functional.logsigmoid(-fake).mean()
    return -functional.logsigmoid(fake).mean()
