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

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)


def fuse(visual: Tensor, histories: Tensor, total: Tensor, weight: float) -> Tensor:
    """Scores [pictures, N] of probabilities `visual` [pictures, N] and counts `histories` [pictures, N], `total` [N].

    Counts, not u_h: u_h after one picture looks as sure as after a thousand.
    """
    prior_all = (total + 1) / (total.sum() + len(total))
    prior_user = (histories + PRIOR_COUNTS * prior_all) / (histories.sum(1, keepdim=True) + PRIOR_COUNTS)
    certain = visual.clamp(min=torch.finfo(visual.dtype).tiny)  # a probability of 0 has no logarithm
    return certain.log() + weight * (prior_user / prior_all).log()


def choose_weight(
    visual: Tensor, histories: Tensor, total: Tensor, tags: Tensor, weights: tuple[float, ...] = WEIGHTS
) -> float:
    """The weight of the best precision@5 on validation pictures of `tags` 0/1 [pictures, N]; of equals the first.

    `histories` must not count these pictures' own tags (leave-one-out), nor may the visual net have trained on them:
    either would choose a weight that suits known answers. Raises DataError with fewer than 5 tags or none used.
    """

    def precision(weight: float) -> float:
        return tagging_metrics(fuse(visual, histories, total, weight), tags, ks=(5,))["precision@5"]

    return max(weights, key=precision)
