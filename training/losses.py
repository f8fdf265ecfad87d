"""The paper's losses on logits, equations 1 to 7."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.methods.ranking_losses import softmax_loss, warp_loss
from training.model import Prediction, normalized
from training.settings import LossSettings

JITTER_ETA = 0.7
JITTER_IOTA = 0.3
"""eta and iota of equation 7."""


def network_losses(
    prediction: Prediction, tags: Tensor, counts: Tensor, discriminator: nn.Module, settings: LossSettings
) -> dict[str, Tensor]:
    """Compute L_p, L_g, L_r and L_adv, and their weighted sum L_t (equation 5) as "total"; all scalars.

    Losses with weight 0, or without their part of the network, are left out. `tags` (0/1) and `counts` (the histories)
    are float [batch, N]. The minus sign of equation 1 is dropped, because it would make the reconstruction worse.
    """
    losses, weights = {}, []
    if prediction.personalized is not None and settings.alpha:
        losses["personalized"] = personalized_loss(prediction.personalized.float(), tags, settings)
        weights.append(settings.alpha)
    if prediction.generalized is not None and settings.beta:
        losses["generalized"] = functional.binary_cross_entropy_with_logits(prediction.generalized.float(), tags)
        weights.append(settings.beta)
    if prediction.history is not None and settings.gamma:
        reconstructed = torch.sigmoid(prediction.history.float())
        losses["reconstruction"] = _reconstruction(reconstructed, normalized(counts), settings)
        weights.append(settings.gamma)
    if settings.theta:
        judged = discriminator(torch.sigmoid(judged_tags(prediction, settings)))
        losses["adversarial"] = _adversarial(judged.float(), settings)
        weights.append(settings.theta)
    weighted = [weight * loss for weight, loss in zip(weights, losses.values(), strict=True)]
    return {**losses, "total": torch.stack(weighted).sum()}


def judged_tags(prediction: Prediction, settings: LossSettings) -> Tensor:
    """Return the logits that D judges: T_g in the paper's model, T_p in its A5."""
    judged = prediction.generalized if settings.adversarial_on == "generalized" else prediction.personalized
    assert judged is not None  # the settings have been checked
    return judged.float()


def discriminator_loss(fake: Tensor, tags: Tensor, noise: Tensor, discriminator: nn.Module) -> Tensor:
    """Compute equation 6 as a scalar loss to minimize; `fake` are logits [batch, N], which are detached.

    `tags` and `noise` as in `jitter`. One pass judges both halves: DistributedDataParallel allows one per step.
    """
    judged = discriminator(torch.cat([jitter(tags, noise), torch.sigmoid(fake.detach())])).float()
    on_real, on_fake = judged.chunk(2)
    return -(functional.logsigmoid(on_real).mean() + functional.logsigmoid(-on_fake).mean())


def jitter(tags: Tensor, noise: Tensor) -> Tensor:
    """Turn 0/1 labels into confidences in [0.7, 1.0] and [0.0, 0.3], so that round numbers do not give them away to D.

    Equation 7. `noise`: uniform in [0, 1), with the shape of `tags`.
    """
    return tags * JITTER_ETA + noise * JITTER_IOTA


def personalized_loss(logits: Tensor, tags: Tensor, settings: LossSettings) -> Tensor:
    """Compute equation 2, or a ranking loss in its place; scalar. `logits` and `tags` (0/1) are float [batch, N]."""
    if settings.personalized == "softmax":
        return softmax_loss(logits, tags)
    if settings.personalized == "warp":
        return warp_loss(logits, tags)
    return functional.binary_cross_entropy_with_logits(logits, tags)


def _reconstruction(reconstructed: Tensor, history: Tensor, settings: LossSettings) -> Tensor:
    """Compute equation 1 with delta = 1, or MSE."""
    if settings.reconstruction == "huber":
        return functional.huber_loss(reconstructed, history, delta=1.0)
    return functional.mse_loss(reconstructed, history)


def _adversarial(fake: Tensor, settings: LossSettings) -> Tensor:
    """Compute equation 3, log(1 - D(G(e))), or -log D(G(e)), which has the same fixed point and does not saturate."""
    if settings.adversarial == "saturating":
        return functional.logsigmoid(-fake).mean()
    return -functional.logsigmoid(fake).mean()
