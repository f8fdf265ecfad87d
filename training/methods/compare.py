"""The comparison methods that train no network of their own, on the features of a trained visual net."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.histories import Histories
from training.data.manifest import Manifest
from training.evaluate import Metrics, encoded_batches, recommend
from training.methods.fasttag import FastTagSettings, fit
from training.methods.late_fusion import choose_weight, fuse
from training.methods.neighbours import neighbour_votes
from training.methods.popularity import own_most_frequent
from training.metrics import tagging_metrics
from training.model import ALTReco

OWN, NEIGHBOURS, FASTTAG, FUSION = "own most frequent tags", "visual neighbours", "FastTag", "late fusion"
K_NEIGHBOURS = 50
MAX_TRAINING_PICTURES = 50_000
"""So many, at random, are looked at for neighbours and FastTag, which hold their tags dense in memory."""


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
    """Metrics of the methods on the test split. Late fusion's weight is chosen on the validation split, so the visual
    net must not have been trained on it.
    """
    train = np.random.default_rng(0).permutation(manifest.rows("train"))[:MAX_TRAINING_PICTURES]
    known, validation, test = (
        _look(visual_net, manifest, histories, rows, workers)
        for rows in (train, manifest.rows("validation"), manifest.rows("test"))
    )
    total = histories.total()
    weight = choose_weight(validation.scores, validation.counts, total, validation.tags)
    scores = {
        OWN: own_most_frequent(test.counts, total),
        NEIGHBOURS: neighbour_votes(test.features, known.features, known.tags, min(K_NEIGHBOURS, len(train))),
        FASTTAG: fit(known.features, known.tags, FastTagSettings()).scores(test.features),
        FUSION: fuse(test.scores, test.counts, total, weight),
    }
    return {method: tagging_metrics(of_method, test.tags, users=test.users) for method, of_method in scores.items()}


def _look(
    visual_net: ALTReco, manifest: Manifest, histories: Histories, rows: NDArray[np.int64], workers: int
) -> _Seen:
    features, scores, tags, users = [], [], [], []
    for encoding, batch in encoded_batches(visual_net, manifest, histories, rows, workers):
        features.append(encoding.float().mean((2, 3)).cpu())
        scores.append(recommend(visual_net, encoding, batch.counts))
        tags.append(batch.tags.cpu())
        users.append(batch.user.cpu())
    owners = torch.cat(users)
    counts = torch.from_numpy(np.stack([histories.tag_counts(user) for user in owners.tolist()]))
    return _Seen(torch.cat(features), torch.cat(scores), torch.cat(tags), counts, owners)
