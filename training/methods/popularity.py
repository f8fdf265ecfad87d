"""The most frequent tags: of everybody (the baseline of the paper's Table IV), and of the picture's user."""

import torch
from torch import Tensor


def most_frequent(total: Tensor, pictures: int) -> Tensor:
    """The same scores for every picture, [pictures, N]: `total`, how often all users used each tag, [N]."""
    return total.expand(pictures, -1)


def own_most_frequent(histories: Tensor, total: Tensor) -> Tensor:
    """Scores N down to 1 by place, [pictures, N]: first by the user's own use, then by everybody's, then by index.

    `histories` [pictures, N] are the users' counts or u_h, which have the same order; `total` [N] counts. Places rather
    than a sum of both: no weight of `total` is small enough for every user and large enough for float32.
    """
    tags = len(total)
    by_total = total.argsort(descending=True, stable=True)
    order = by_total[histories[:, by_total].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(tags, 0, -1, dtype=histories.dtype, device=histories.device)
    return torch.empty_like(histories).scatter_(1, order, places.expand_as(order))
