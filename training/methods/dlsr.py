"""DLSR without initial tags, after Lin et al. (Image tag completion via dual-view linear sparse reconstructions, CVIU
124, 2014): a picture from other pictures, a tag from other tags, both with sparse weights of at least 0.

    w = argmin 1/2 |x - X^T w|^2 + l1 sum w                     X [K, D]: the training pictures most like x
    t = Y^T w / sum w                                            their tags Y [K, N]
    B = argmin 1/2 |Y - Y B|^2 + l2 sum B + l3/2 |B|^2, diag B = 0   all training pictures' tags
    score = t + theta t B

Differs from the original: it completes tags that a picture already has, ours has none, so that only its features are
reconstructed; penalties and solver are ours.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBOURS = 200
"""K, or as many as there are training pictures."""
L1, L2, THETA = (0.01, 0.03, 0.1), (20.0, 5.0, 1.0), (0.0, 0.25, 0.5, 1.0, 2.0)
"""What to choose from on validation pictures."""
L3 = 1.0
STEPS = 200
"""At most, of the accelerated gradient method."""
TOLERANCE = 1e-5
"""Stop when no weight moves more."""
CHUNK_NUMBERS = 2**24
"""Numbers of X held at once, 64 MiB as float32."""


def from_pictures(features: Tensor, train_features: Tensor, train_tags: Tensor, l1: float) -> Tensor:
    """t of each picture, [pictures, N]; where w is 0, the share of the training pictures that have each tag.

    `features` [pictures, D] and `train_features` [M, D] float, `train_tags` 0/1 [M, N] of any dtype.
    """
    mean = train_features.mean(0)
    known, asked = (functional.normalize(x - mean, dim=1) for x in (train_features, features))
    share = train_tags.mean(0, dtype=features.dtype)
    k = min(NEIGHBOURS, len(known))
    chunk = max(1, CHUNK_NUMBERS // (k * max(known.shape[1], train_tags.shape[1])))
    parts = []
    for part in asked.split(chunk):
        nearest = (part @ known.T).topk(k, dim=1).indices
        weights = picture_weights(part, known[nearest], l1)
        total = weights.sum(1, keepdim=True)
        tags = torch.bmm(weights[:, None], train_tags[nearest].to(weights.dtype))[:, 0]
        parts.append(torch.where(total > 0, tags / total.clamp(min=torch.finfo(total.dtype).tiny), share))
    return torch.cat(parts)


def picture_weights(x: Tensor, neighbours: Tensor, l1: float) -> Tensor:
    """w [pictures, K] of `x` [pictures, D] from `neighbours` X [pictures, K, D]."""
    gram = torch.bmm(neighbours, neighbours.mT)
    target = torch.bmm(neighbours, x[:, :, None]) - l1
    step = 1 / torch.linalg.matrix_norm(gram)[:, None, None].clamp(min=torch.finfo(x.dtype).tiny)
    return _descend(torch.zeros_like(target), lambda w: step * (torch.bmm(gram, w) - target))[:, :, 0]


def tag_weights(together: Tensor, l2: float, l3: float = L3, start: Tensor | None = None) -> Tensor:
    """B [N, N] from `together`, Y^T Y [N, N]: column j says which tags speak for tag j. `start`: a B to start from."""
    step = 1 / (torch.linalg.eigvalsh(together)[-1] + l3)
    off_diagonal = 1 - torch.eye(len(together), dtype=together.dtype)

    def move(b: Tensor) -> Tensor:
        return step * (together @ b - together + l2 + l3 * b)

    return _descend(torch.zeros_like(together) if start is None else start, move, off_diagonal)


def _descend(weights: Tensor, move: Callable[[Tensor], Tensor], allowed: Tensor | float = 1.0) -> Tensor:
    """FISTA from `weights`, at least 0 and 0 where `allowed` is; `move` is the gradient times the step."""
    point, momentum = weights, 1.0
    for _ in range(STEPS):
        moved = (point - move(point)).clamp_(min=0).mul_(allowed)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        change = moved - weights
        point = moved + (momentum - 1) / following * change
        weights, momentum = moved, following
        if change.abs().amax() < TOLERANCE:
            break
    return weights
