"""FastTag (Chen, Zheng and Weinberger, Fast Image Tagging, ICML 2013): two linear maps, in closed form.

Users leave most fitting tags out. So B [N, N] learns to complete the tags y of a picture from themselves, W [N, D] to
reach the completed tags B y from its features x, and each holds the other in check. Over n training pictures, jointly
convex:

    loss = 1/n sum |W x + c - B y|^2 + ridge v |W|^2 + enrichment r(B)
    r(B) = 1/n sum E |y - B y'|^2, where y' is y with each tag blanked out with probability `blank_out`, p

The expectation is exact (marginalized): with S = sum y y^T and diag(S) its diagonal alone,

    r(B) = 1/n tr(B Q B^T - 2 P B^T + S),  P = (1 - p) S,  Q = (1 - p)^2 S + p (1 - p) diag(S)

The original repeats two updates until they settle; with C the covariances of features x and tags y,

    W = B C_yx H,  H = (C_xx + ridge v I)^-1            (c = B mean(y) - W mean(x))
    B (enrichment Q/n + C_yy) = enrichment P/n + W C_xy

Substituting W into the second gives the B at which they settle, in one step:

    B (enrichment Q/n + C_yy - C_yx H C_xy) = enrichment P/n

c and v, the features' mean variance, are ours: with them, neither offset nor scale of the features matters. The
original's stack of several B and its extra step for rare tags are left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import DataError, SettingsError

CHUNK_PICTURES = 4096
"""Pictures held in double precision at once."""


@dataclass(frozen=True, kw_only=True)
class FastTagSettings:
    """p, and the weights of r(B) and of |W|^2; the defaults suit pixel features of the generated data set."""

    blank_out: float = 0.1
    enrichment: float = 1.0
    ridge: float = 0.01

    def __post_init__(self) -> None:
        """Raise SettingsError for values without a unique solution."""
        if not 0 < self.blank_out < 1:
            raise SettingsError(f"blank_out is {self.blank_out!r}: expected more than 0 and less than 1")
        for name in ("enrichment", "ridge"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: expected more than 0")


@dataclass(frozen=True, kw_only=True)
class FastTag:
    """W [N, D], c [N] and B [N, N], in the features' dtype."""

    weights: Tensor
    bias: Tensor
    enrichment: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """W x + c of features [pictures, D], [pictures, N]."""
        return features @ self.weights.T + self.bias


def fit(features: Tensor, tags: Tensor, settings: FastTagSettings) -> FastTag:
    """Solve for B and W; `features` float [M, D], `tags` 0/1 [M, N] of any dtype.

    A tag that no training picture has gets a zero row and column. Raises DataError for features that are all the same.
    """
    pictures = len(features)
    mean_x = features.mean(0, dtype=torch.float64)
    c_xx, c_yx, s_yy = (moment / pictures for moment in _moments(features, mean_x, tags))
    mean_y = tags.mean(0, dtype=torch.float64)
    variance = c_xx.trace() / len(c_xx)
    if variance == 0:
        raise DataError(f"all {pictures} training pictures have the same features: expected some that differ")

    h = torch.linalg.inv(c_xx + settings.ridge * variance * torch.eye(len(c_xx), dtype=c_xx.dtype, device=c_xx.device))
    kept = 1 - settings.blank_out
    frequency = s_yy.diagonal()
    p = kept * s_yy
    q = kept**2 * s_yy + kept * settings.blank_out * frequency.diag()
    unexplained = s_yy - mean_y.outer(mean_y) - c_yx @ h @ c_yx.T
    unused = (frequency == 0).double().diag()  # any number but 0 gives these tags their zeros
    b = torch.linalg.solve(settings.enrichment * q + unexplained + unused, settings.enrichment * p).T
    w = b @ c_yx @ h
    solution = {"weights": w, "bias": b @ mean_y - w @ mean_x, "enrichment": b}
    return FastTag(**{name: value.to(features.dtype) for name, value in solution.items()})


def _moments(features: Tensor, mean: Tensor, tags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the pictures of x x^T, y x^T and y y^T, x less its mean, in double precision."""
    (d,), n = mean.shape, tags.shape[1]
    xx, yx, yy = mean.new_zeros(d, d), mean.new_zeros(n, d), mean.new_zeros(n, n)
    for some_features, some_tags in zip(features.split(CHUNK_PICTURES), tags.split(CHUNK_PICTURES), strict=True):
        x, y = some_features.double() - mean, some_tags.double()
        xx += x.T @ x
        yx += y.T @ x
        yy += y.T @ y
    return xx, yx, yy
