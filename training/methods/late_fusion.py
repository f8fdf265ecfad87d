"""Late fusion: the scores of a trained visual net combined with a user prior by Bayes' rule.

If picture and user were independent given the tag, p(tag | picture, user) would be proportional to
p(tag | picture) p(tag | user) / p(tag). They are not quite independent, and the net is not quite calibrated, so the
user's part has a weight:

    score = log p_visual + weight (log prior_user - log prior_all)

Both priors are smoothed, so that no tag is ruled out. With a user's counts h and all users' counts t of the N tags:

    prior_all  = (t + 1) / (sum t + N)
    prior_user = (h + s prior_all) / (sum h + s),  s = PRIOR_COUNTS

Without a history, prior_user is prior_all, and the visual net decides alone. `training/model/history_path.py` has the
same prior with learned weights.
"""

import torch
from torch import Tensor

from training.metrics import tagging_metrics

PRIOR_COUNTS = 10.0
"""s: prior_all weighs as much as this many tags of the user's own."""

BAYES = 1.0
"""The weight of Bayes' rule."""

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)


def fuse(visual: Tensor, histories: Tensor, total: Tensor, weight: float) -> Tensor:
    """Scores [pictures, N], from probabilities `visual` and counts `histories`, [pictures, N], and `total`, [N]."""
    prior_all = (total + 1) / (total.sum() + len(total))
    prior_user = (histories + PRIOR_COUNTS * prior_all) / (histories.sum(1, keepdim=True) + PRIOR_COUNTS)
    certain = visual.clamp(min=torch.finfo(visual.dtype).tiny)  # a probability of 0 has no logarithm
    return certain.log() + weight * (prior_user / prior_all).log()


def choose_weight(
    visual: Tensor, histories: Tensor, total: Tensor, tags: Tensor, weights: tuple[float, ...] = WEIGHTS
) -> float:
    """The weight with the best precision@5 on validation pictures with `tags` 0/1 [pictures, N]; of equals, the first.

    `histories` must not count these pictures' own tags, and the visual net must not have been trained on them:
    otherwise the weight would suit answers that are already known. Raises DataError with fewer than 5 tags or without a
    tagged picture.
    """

    def precision(weight: float) -> float:
        return tagging_metrics(fuse(visual, histories, total, weight), tags, ks=(5,))["precision@5"]

    return max(weights, key=precision)
