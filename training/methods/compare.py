"""The comparison methods that train no network of their own, on the features of a trained visual net."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.histories import Histories
from training.data.manifest import Manifest
from training.evaluate import (
    FUSION,
    WITHOUT,
    Metrics,
    encoded_batches,
    evaluate,
    fused,
    groups,
    rank_by_group,
    recommend,
    summarize_all,
)
from training.methods.fasttag import FastTagSettings, fit
from training.methods.late_fusion import choose_weight
from training.methods.neighbours import neighbour_votes
from training.methods.popularity import own_most_frequent
from training.model import ALTReco

OWN, NEIGHBOURS, FASTTAG = "own most frequent tags", "visual neighbours", "FastTag"
K_NEIGHBOURS = 50
MAX_TRAINING_PICTURES = 50_000
"""Most training pictures for neighbours and FastTag, chosen at random: both hold their tags dense in memory."""


@dataclass(frozen=True)
class _Seen:
    """Some pictures through the visual net, on the CPU: `features` [pictures, channels], e's mean over its positions;
    `scores` and `tags` [pictures, N]; `counts` [pictures, N], the user's history as counts; `users` [pictures].
    """

    features: Tensor
    scores: Tensor
    tags: Tensor
    counts: Tensor
    users: Tensor


def compare(visual_net: ALTReco, manifest: Manifest, histories: Histories, *, workers: int) -> Metrics:
    """Metrics of the methods on the test split, known and new users apart; late fusion with each kind of history.

    Late fusion's weight is chosen on the validation split, so the visual net must not have been trained on it.
    """
    train = np.random.default_rng(0).permutation(manifest.rows("train"))[:MAX_TRAINING_PICTURES]
    known, validation, test = (
        _look(visual_net, manifest, histories, rows, workers)
        for rows in (train, manifest.rows("validation"), manifest.rows("test"))
    )
    total = histories.total()
    weight = choose_weight(validation.scores, validation.counts, total, validation.tags)
    measured = evaluate(visual_net, manifest, histories, workers=workers, quiet=True, fusion_weight=weight)
    scores = {
        OWN: own_most_frequent(test.counts, total),
        NEIGHBOURS: neighbour_votes(test.features, known.features, known.tags, min(K_NEIGHBOURS, len(train))),
        FASTTAG: fit(known.features, known.tags, FastTagSettings()).scores(test.features),
    }
    fusions = {method: of_method for method, of_method in measured.items() if FUSION in method}
    fusions |= {f"{group}{fused(WITHOUT)}": measured[f"{group}{WITHOUT}"] for group in groups(measured)}
    return {**summarize_all(rank_by_group(scores, test.tags, test.users, histories)), **fusions}


def _look(
    visual_net: ALTReco, manifest: Manifest, histories: Histories, rows: NDArray[np.int64], workers: int
) -> _Seen:
    features, scores, tags, counts, users = [], [], [], [], []
    for encoding, batch in encoded_batches(visual_net, manifest, histories, rows, workers):
        features.append(encoding.float().mean((2, 3)).cpu())
        scores.append(recommend(visual_net, encoding, batch.counts))
        tags.append(batch.tags.cpu())
        counts.append(batch.counts.cpu())
        users.append(batch.user.cpu())
    return _Seen(*map(torch.cat, (features, scores, tags, counts, users)))
