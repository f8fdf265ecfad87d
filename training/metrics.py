"""Metrics of ranked tags (paper, section V-B, Tables IV, V, VII and VIII), computed batch by batch.

`rank` reduces the scores of a batch to a few numbers per picture and per tag, `merge` joins batches, and `summarize`
computes the metrics. Rules for all of them:
- Equal scores rank by index, so that ties do not make figures depend on the machine.
- Pictures without tags do not count anywhere, nor do predictions for them, because no answer can be right.
- Tags without pictures do not count in the means C-P and C-R; a prediction of one still takes a place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.errors import DataError

KS = (3, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Numbers for the metrics: P pictures with a tag, K values of k; on the CPU, counts int64 and shares float64."""

    ks: tuple[int, ...]
    users: Tensor
    """[P]: the user of each picture."""
    relevant: Tensor
    """[P]: number of tags of the picture."""
    hits: Tensor
    """[P, K]: number of the picture's tags among the k best."""
    ndcg: Tensor
    """[P, K]."""
    average_precision: Tensor
    """[P]."""
    reciprocal_rank: Tensor
    """[P]."""
    class_pictures: Tensor
    """[N]: number of pictures with the tag."""
    class_predicted: Tensor
    """[K, N]: number of pictures with the tag among the k best."""
    class_hits: Tensor
    """[K, N]: number of these pictures that have the tag."""


def rank(scores: Tensor, truth: Tensor, users: Tensor, ks: tuple[int, ...] = KS) -> Ranked:
    """Rank one batch: `scores` float [pictures, N], `truth` 0/1 [pictures, N], `users` int [pictures].

    Raises DataError if a k is outside 1 to N, or a score is NaN.
    """
    tags = scores.shape[1]
    if not all(1 <= k <= tags for k in ks):
        raise DataError(f"cannot take the {ks} best of {tags} tags: expected every k from 1 to {tags}")
    tagged = truth.sum(1) > 0
    scores, truth, users = scores[tagged], truth[tagged].bool(), users[tagged]
    if scores.isnan().any():
        raise DataError("scores contain NaN, which cannot be ranked: check the model or method that computed them")

    order = torch.sort(scores, dim=1, descending=True, stable=True).indices
    best, found = order[:, : max(ks)].cpu(), truth.gather(1, order).cpu()  # [P, largest k], [P, N]
    relevant = found.sum(1)
    discount = 1 / torch.log2(torch.arange(2, max(ks) + 2, dtype=torch.float64))
    ideal = discount.cumsum(0)
    average_precision, reciprocal_rank = _whole_ranking(found, relevant)
    return Ranked(
        ks=ks,
        users=users.cpu(),
        relevant=relevant,
        hits=torch.stack([found[:, :k].sum(1) for k in ks], 1),
        ndcg=torch.stack([(found[:, :k] * discount[:k]).sum(1) / ideal[relevant.clamp(max=k) - 1] for k in ks], 1),
        average_precision=average_precision,
        reciprocal_rank=reciprocal_rank,
        class_pictures=truth.sum(0).cpu(),
        class_predicted=torch.stack([best[:, :k].flatten().bincount(minlength=tags) for k in ks]),
        class_hits=torch.stack([best[:, :k][found[:, :k]].bincount(minlength=tags) for k in ks]),
    )


def _whole_ranking(found: Tensor, relevant: Tensor) -> tuple[Tensor, Tensor]:
    """Compute average precision and reciprocal rank, [P] each, from the few places with a tag of the picture."""
    picture, place = found.nonzero(as_tuple=True)
    first = relevant.cumsum(0) - relevant  # start of each picture's places
    hits = torch.arange(1, len(place) + 1) - first[picture]
    precision = hits / (place + 1).double()
    sums = torch.zeros(len(found), dtype=torch.float64).index_add_(0, picture, precision)
    return sums / relevant, 1 / (place[first] + 1).double()


def merge(batches: Sequence[Ranked]) -> Ranked:
    """Join at least one batch, in order; all have the same ks and N.

    Merge each batch into a running result: hundreds of them kept until the end fragment the memory.
    """
    joined = {}
    for name in (field.name for field in fields(Ranked) if field.name != "ks"):
        parts = [getattr(batch, name) for batch in batches]
        joined[name] = torch.stack(parts).sum(0) if name.startswith("class_") else torch.cat(parts)
    return Ranked(ks=batches[0].ks, **joined)


def summarize(ranked: Ranked) -> dict[str, float]:
    """Compute the metrics by name; raises DataError if no picture has a tag. For each k:

    - precision@k: hits / k; recall@k: hits / the picture's tags; accuracy@k: 1 with at least one hit; nDCG@k: hits
      discounted by log2(place + 1), divided by the best possible sum. Means over pictures. Names with "/user" are means
      over users of the mean over a user's pictures, so that users with many pictures do not dominate.
    - C-P@k, C-R@k: precision and recall per tag, averaged over the tags of at least one picture; a tag that is never
      predicted has precision 0. C-F1@k is the harmonic mean of the two means.
    - O-P@k, O-R@k, O-F1@k: the same over all predictions together. Every picture gets k tags, so O-P@k = precision@k.

    MAP: mean over pictures of the mean, over their tags, of the precision at the tag's place. MRR: mean of 1 / the
    place of the first hit. Both use the whole ranking.
    """
    if len(ranked.relevant) == 0:
        raise DataError("no picture has a tag of the vocabulary: there is nothing to measure")
    metrics: dict[str, float] = {}
    for column, k in enumerate(ranked.ks):
        hits = ranked.hits[:, column].double()
        pictures = {"precision": hits / k, "recall": hits / ranked.relevant, "accuracy": (hits > 0).double()}
        metrics |= {f"{name}@{k}": values.mean().item() for name, values in pictures.items()}
        metrics |= {f"{name}@{k}/user": _user_mean(values, ranked.users) for name, values in pictures.items()}
        metrics[f"nDCG@{k}"] = ranked.ndcg[:, column].mean().item()
        metrics |= {f"{name}@{k}": value for name, value in _class_metrics(ranked, column).items()}
    metrics["MAP"] = ranked.average_precision.mean().item()
    metrics["MRR"] = ranked.reciprocal_rank.mean().item()
    return metrics


def tagging_metrics(
    scores: Tensor, truth: Tensor, ks: tuple[int, ...] = KS, *, users: Tensor | None = None
) -> dict[str, float]:
    """Rank and summarize data that fits in memory; without `users`, metrics per user are left out."""
    if users is not None:
        return summarize(rank(scores, truth, users, ks))
    metrics = summarize(rank(scores, truth, torch.zeros(len(truth), dtype=torch.int64), ks))
    return {name: value for name, value in metrics.items() if not name.endswith("/user")}


def _class_metrics(ranked: Ranked, column: int) -> dict[str, float]:
    classes = ranked.class_pictures > 0
    hits = ranked.class_hits[column, classes].double()
    predicted, pictures = ranked.class_predicted[column], ranked.class_pictures[classes]
    return {
        **_with_f1("C", (hits / predicted[classes].clamp(min=1)).mean().item(), (hits / pictures).mean().item()),
        **_with_f1("O", (hits.sum() / predicted.sum()).item(), (hits.sum() / pictures.sum()).item()),
    }


def _with_f1(name: str, precision: float, recall: float) -> dict[str, float]:
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {f"{name}-P": precision, f"{name}-R": recall, f"{name}-F1": f1}


def _user_mean(values: Tensor, users: Tensor) -> float:
    index, counts = users.unique(return_inverse=True, return_counts=True)[1:]
    sums = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, index, values)
    return (sums / counts).mean().item()
