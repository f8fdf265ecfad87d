"""PROMPT without text, after Shah et al. (PROMPT, IEEE ISM 2016): groups of users, co-occurrence, votes, random walk.

Nothing is trained. A picture's candidates come from the visual net's best tags and from similar pictures, both counted
within the group of users who tag alike. Differs from the original: no title and description; the grouping, what a
neighbour is and the walk's damping are ours, as their descriptions were not to be had.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.methods.neighbours import CHUNK_NUMBERS

EVERYBODY = -1
"""The group of users without a history, which has the training pictures of all."""
SEEDS, NEIGHBOURS, CANDIDATES = 5, 50, 50
"""Tags of the visual net to start from, training pictures that vote, tags that the walk visits; fewer if there are."""
MIN_PICTURES = 3
"""A tag of fewer of the group's pictures says nothing about other tags."""
RESTARTS, ITERATIONS, MAX_USERS = 10, 50, 50_000
"""Starts and iterations of the grouping, and the most users that it looks at."""
GROUPS, KEEP = (2, 4, 8, 16, 32), (0.5, 0.0, 0.3, 0.7, 0.85)
"""What to choose from on validation pictures."""


def unit_histories(counts: Tensor) -> Tensor:
    """sqrt(counts) at length 1, [users, N]; 0 without a history."""
    return functional.normalize(counts.sqrt(), dim=1)


def group_centres(histories: Tensor, groups: int, seed: int = 0) -> Tensor:
    """Spherical k-means: `groups` directions [groups, N], or as many as users, of `unit_histories` [users, N].

    The best of RESTARTS by the sum of cosines.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = min(groups, len(histories))
    best, best_sum = histories[:groups], -1.0
    for _ in range(RESTARTS):
        centres = histories[torch.randperm(len(histories), generator=generator)[:groups]]
        for _ in range(ITERATIONS):
            members = functional.one_hot((histories @ centres.T).argmax(1), groups).to(histories.dtype)
            sums = members.T @ histories
            moved = torch.where(sums.any(1, keepdim=True), functional.normalize(sums, dim=1), centres)
            if torch.equal(moved, centres):
                break
            centres = moved
        total = (histories @ centres.T).amax(1).sum().item()
        if total > best_sum:
            best, best_sum = centres, total
    return best


def assign(histories: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of each of `unit_histories` [pictures, N], int64 [pictures]; EVERYBODY without a history."""
    nearest = (histories @ centres.T).argmax(1)
    return torch.where(histories.any(1), nearest, EVERYBODY)


@dataclass(frozen=True)
class Candidates:
    """Before the walk, for each picture: `tags` int64 [pictures, C], best first; `scores`, r0, and `links`, the rows of
    W, [pictures, C, C]; `others` [pictures, N], the scores below 0 of all tags.
    """

    tags: Tensor
    scores: Tensor
    links: Tensor
    others: Tensor


def find_candidates(
    visual: Tensor, features: Tensor, groups: Tensor, train_features: Tensor, train_tags: Tensor, train_groups: Tensor
) -> Candidates:
    """Candidates of pictures with `visual` probabilities [pictures, N], `features` [pictures, D] and `groups`
    [pictures], from training pictures that have the same.
    """
    share = train_tags.mean(0, dtype=visual.dtype)
    size = min(CANDIDATES, visual.shape[1])
    found = Candidates(
        tags=groups.new_zeros(len(visual), size),
        scores=visual.new_zeros(len(visual), size),
        links=visual.new_zeros(len(visual), size, size),
        others=(share - 1).expand_as(visual),
    )
    everyone = functional.normalize(train_features, dim=1)
    for group in groups.unique().tolist():
        asked, members = groups == group, (train_groups == group) | (group == EVERYBODY)
        tags = train_tags[members].to(visual.dtype)
        together = tags.T @ tags  # n_ij
        voters = members if members.sum() >= NEIGHBOURS else torch.ones_like(members)
        votes = _votes(functional.normalize(features[asked], dim=1), everyone[voters], train_tags[voters])
        relevance = (_scaled(_co_occurring(visual[asked], together)) + _scaled(votes)) / 2
        best = relevance.sort(dim=1, descending=True, stable=True)
        chosen = best.indices[:, :size]
        found.tags[asked], found.scores[asked] = chosen, best.values[:, :size]
        found.links[asked] = _links(together)[chosen[:, :, None], chosen[:, None, :]]
    return found


def co_occurrence(together: Tensor) -> Tensor:
    """p(j | i) = n_ij / n_i, [N, N], 0 for i = j and for n_i below MIN_PICTURES, from counts n_ij [N, N]."""
    pictures = together.diagonal()
    given = together / pictures.clamp(min=1)[:, None] * (pictures >= MIN_PICTURES)[:, None]
    return given - given.diagonal().diag()


def walked(candidates: Candidates, keep: float) -> Tensor:
    """Scores [pictures, N] after the walk r = keep W^T r + (1 - keep) r0; `keep` from 0 up to 1.

    W has rows of sum 1; a row without links goes everywhere. The walk is solved for where it ends.
    """
    links = candidates.links
    mass = links.sum(2, keepdim=True)
    size = links.shape[2]
    steps = torch.where(mass > 0, links / mass.clamp(min=torch.finfo(links.dtype).tiny), 1 / size)
    system = torch.eye(size, dtype=links.dtype) - keep * steps.mT
    end = (1 - keep) * torch.linalg.solve(system, candidates.scores[:, :, None])[:, :, 0]
    return candidates.others.scatter(1, candidates.tags, end)


def _co_occurring(visual: Tensor, together: Tensor) -> Tensor:
    """sum w_i p(j | i) + w_j over the SEEDS best tags i of the visual net with their probabilities w, [pictures, N]."""
    best = visual.topk(min(SEEDS, visual.shape[1]), dim=1)
    weights = torch.zeros_like(visual).scatter(1, best.indices, best.values)
    return weights @ co_occurrence(together) + weights


def _votes(directions: Tensor, known: Tensor, tags: Tensor) -> Tensor:
    """How much more often the nearest have each tag than as many random pictures would, [pictures, N], or 0."""
    k = min(NEIGHBOURS, len(known))
    expected = k * tags.mean(0, dtype=directions.dtype)
    chunk = max(1, CHUNK_NUMBERS // max(len(known), k * tags.shape[1]))
    counts = [
        tags[(part @ known.T).topk(k, dim=1).indices].sum(1, dtype=known.dtype) for part in directions.split(chunk)
    ]
    return (torch.cat(counts) - expected).clamp(min=0)


def _links(together: Tensor) -> Tensor:
    """n_ij / sqrt(n_i n_j), 0 on the diagonal, [N, N]."""
    root = together.diagonal().clamp(min=1).sqrt()
    links = together / (root[:, None] * root)
    return links - links.diagonal().diag()


def _scaled(scores: Tensor) -> Tensor:
    return scores / scores.amax(1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
