"""CLARE, after Wang et al. (CLARE: A Joint Approach to Label Classification and Tag Recommendation, AAAI 2017): class
labels and tags predicted together, tags of a label's group from the same features as the label.

W [D, C + N] maps centred features X [n, D] to labels L [n, C] and tags Y [n, N]:

    min 1/2n |X W - [L, Y]|^2 + b/2 |W|^2 + a sum over labels c and features d of |W[d, group(c)]|

The group of label c is its own column and the columns of the tags that it speaks for; groups overlap. The solver is
ADMM with a copy of W for each group. Differs from the original: the objective is ours, as theirs was not to be had.
Without the groups (a = 0), this is ridge regression.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.manifest import Manifest
from training.errors import DataError

GROUP, TIMES, MIN_PICTURES = 30, 2.0, 5
"""At most so many tags of a label, each so many times as frequent with it as anywhere, on at least so many pictures."""
A, B = (1e-4, 1e-3, 1e-2), (1e-3, 1e-2, 1e-1)
"""What to choose from on validation pictures."""
RHO, STEPS, TOLERANCE = 1.0, 200, 1e-4


def lacks(manifest: Manifest) -> str:
    """What the data set lacks for CLARE, or nothing."""
    labels = manifest.labels
    if labels is not None and any(len(labels.indices[row]) for row in manifest.rows("train").tolist()):
        return ""
    return f"{manifest.root}: CLARE needs class labels of training pictures, expected them in the column labels"


def labels_of(manifest: Manifest, rows: NDArray[np.int64]) -> Tensor:
    """The labels of these rows as 0/1, float [rows, C]; raises DataError if no training picture has one."""
    if lacking := lacks(manifest):
        raise DataError(lacking)
    assert manifest.labels is not None
    hot = torch.zeros(len(rows), len(manifest.labels.names))
    for place, row in enumerate(rows.tolist()):
        hot[place, manifest.labels.indices[row]] = 1
    return hot


@dataclass(frozen=True)
class Groups:
    """Column `column[i]` of W is in the group `label[i]`, int64 [copies] both."""

    column: Tensor
    label: Tensor


def group_tags(labels: Tensor, tags: Tensor) -> Groups:
    """The groups from training pictures with `labels` 0/1 [n, C] and `tags` 0/1 [n, N], of any dtype."""
    labels, tags = labels.float(), tags.float()
    together = labels.T @ tags  # [C, N]
    lift = together * len(tags) / (labels.sum(0)[:, None] * tags.sum(0)).clamp(min=1)
    lift = torch.where((lift > TIMES) & (together >= MIN_PICTURES), lift, 0)
    best = lift.sort(dim=1, descending=True, stable=True)
    label, place = (best.values[:, :GROUP] > 0).nonzero(as_tuple=True)
    classes = torch.arange(len(together))
    return Groups(torch.cat([classes, len(together) + best.indices[label, place]]), torch.cat([classes, label]))


def objective(x: Tensor, targets: Tensor, weights: Tensor, groups: Groups, a: float, b: float) -> Tensor:
    """What `fit` minimizes, a scalar."""
    squares = (x @ weights - targets).square().sum() / (2 * len(x)) + b / 2 * weights.square().sum()
    return squares + a * _norms(weights[:, groups.column], groups).sum()


def fit(x: Tensor, targets: Tensor, groups: Groups, a: float, b: float) -> Tensor:
    """W [D, C + N] of centred features `x` [n, D] and `targets` [n, C + N], labels first."""
    if a == 0:
        values, vectors, wanted = _spectrum(x, targets)
        return vectors @ (wanted / (values + b)[:, None])
    weights, split = solve(x, targets, groups, a, b)
    copies = torch.bincount(groups.column, minlength=weights.shape[1])
    agreed = torch.zeros_like(weights).index_add_(1, groups.column, split) / copies.clamp(min=1)
    return torch.where(copies > 0, agreed, weights)


def solve(x: Tensor, targets: Tensor, groups: Groups, a: float, b: float) -> tuple[Tensor, Tensor]:
    """W [D, C + N] after the last step of ADMM, and its copies Z [D, copies], some rows of which are exactly 0."""
    values, vectors, wanted = _spectrum(x, targets)
    columns = targets.shape[1]
    divisor = values[:, None] + b + RHO * torch.bincount(groups.column, minlength=columns)
    weights, split = torch.zeros_like(wanted), x.new_zeros(x.shape[1], len(groups.column))
    dual = split.clone()
    for _ in range(STEPS):
        pulled = torch.zeros_like(wanted).index_add_(1, groups.column, split - dual)
        weights = vectors @ ((wanted + RHO * (vectors.T @ pulled)) / divisor)
        copied = weights[:, groups.column]
        previous, split = split, shrunk(copied + dual, groups, a / RHO)
        dual = dual + copied - split
        if max((copied - split).abs().amax(), RHO * (split - previous).abs().amax()) < TOLERANCE:
            break
    return weights, split


def _spectrum(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues [D] and vectors [D, D] of X^T X / n, and X^T targets / n in their basis."""
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    return values, vectors, vectors.T @ (x.T @ targets.to(x.dtype) / len(x))


def shrunk(copies: Tensor, groups: Groups, threshold: float) -> Tensor:
    """Each feature's row of each group of `copies` [D, copies], shorter by `threshold`, or 0 if it is not as long."""
    norms = _norms(copies, groups)
    scale = (1 - threshold / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(min=0)
    return copies * scale[:, groups.label]


def _norms(copies: Tensor, groups: Groups) -> Tensor:
    """[D, groups]."""
    count = int(groups.label.max()) + 1
    return copies.new_zeros(len(copies), count).index_add_(1, groups.label, copies.square()).sqrt()
