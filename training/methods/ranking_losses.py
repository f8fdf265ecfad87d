"""Losses of Gong et al. (arXiv 1312.4894) for the visual net; `logits` float [batch, N], `tags` 0/1 [batch, N].

Both are means over the pictures of the batch, to which a picture without tags adds nothing.
"""

import torch
from torch import Tensor
from torch.nn import functional


def softmax_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Cross-entropy of the softmax against an even share, 1 / the picture's tags, for each of its tags; a scalar."""
    target = tags / tags.sum(1, keepdim=True).clamp(min=1)
    return -(target * functional.log_softmax(logits, dim=1)).sum(1).mean()


def warp_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """WARP, a scalar: sum over a picture's tags j of L(r) times the mean hinge over the r tags that violate j.

    A tag k that is not the picture's violates j where 1 - f_j + f_k > 0. L(r) = 1 + 1/2 + ... + 1/r weighs violations
    near the top more. r is counted, where the original estimates it by sampling until a violation turns up. A tag
    without violations adds nothing.
    """
    picture, tag = tags.nonzero(as_tuple=True)
    hinge = functional.relu(1 - logits[picture, tag][:, None] + logits[picture]) * (1 - tags[picture])  # [tags, N]
    violations = (hinge > 0).sum(1)
    places = torch.arange(1, tags.shape[1] + 1, device=logits.device, dtype=hinge.dtype)
    weight = functional.pad(places.reciprocal().cumsum(0), (1, 0))[violations]
    return (weight * hinge.sum(1) / violations.clamp(min=1)).sum() / len(logits)
