"""precision@k, recall@k and accuracy@k (paper, section V-B, Tables IV, VII and VIII)."""

import torch
from torch import Tensor

KS = (3, 5, 10)


def hits_at(scores: Tensor, truth: Tensor, k: int) -> Tensor:
    """1 where the i-th best tag is one of the picture's: [pictures, k]. Equal scores rank by index, as Triton's do not
    have to: a tie must not make the figure depend on the machine.
    """
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k]
    return truth.gather(1, order)


def tagging_metrics(scores: Tensor, truth: Tensor, ks: tuple[int, ...] = KS) -> dict[str, float]:
    """Means over the pictures that have a tag; `scores` [pictures, N], `truth` 0/1 [pictures, N].

    precision@k: hits / k; recall@k: hits / the picture's tags; accuracy@k: 1 with at least one hit.
    """
    tagged = truth.sum(1) > 0
    scores, truth = scores[tagged], truth[tagged].float()
    metrics = {}
    for k in ks:
        hits = hits_at(scores, truth, k).sum(1)
        metrics[f"precision@{k}"] = (hits / k).mean().item()
        metrics[f"recall@{k}"] = (hits / truth.sum(1)).mean().item()
        metrics[f"accuracy@{k}"] = (hits > 0).float().mean().item()
    return metrics
