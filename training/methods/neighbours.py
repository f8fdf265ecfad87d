"""Tags of the training pictures that look most alike."""

import torch
from torch import Tensor
from torch.nn import functional

from training.errors import DataError

CHUNK_NUMBERS = 2**25
"""Numbers held at once, 128 MiB as float32: the pictures of a chunk are as many as fit."""


def neighbour_votes(features: Tensor, train_features: Tensor, train_tags: Tensor, k: int) -> Tensor:
    """The share of the votes that each tag gets from the k training pictures of highest cosine, [pictures, N].

    `features` [pictures, D] and `train_features` [M, D] float, `train_tags` 0/1 [M, N] of any dtype. A vote weighs its
    cosine, or nothing where that is negative. Raises DataError for k not in 1 to M.
    """
    if not 1 <= k <= len(train_features):
        raise DataError(f"{k} neighbours: expected 1 to {len(train_features)}, the number of training pictures")
    directions = functional.normalize(train_features, dim=1)
    chunk = max(1, CHUNK_NUMBERS // max(len(train_features), k * train_tags.shape[1]))
    return torch.cat([_votes(part, directions, train_tags, k) for part in features.split(chunk)])


def _votes(features: Tensor, directions: Tensor, train_tags: Tensor, k: int) -> Tensor:
    cosines, nearest = (functional.normalize(features, dim=1) @ directions.T).topk(k, dim=1)
    weights = cosines.clamp(min=0)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).eps)
    return torch.bmm(weights[:, None], train_tags[nearest].to(weights.dtype))[:, 0]
