"""The history path: a prior over the tags from the user's counts, added to the classifier's logits.

For raw counts c [batch, N] with the sum s, the shares p of the tags among all tags of the training pictures, and the
numbers n of training users who used each tag:

    k = n / (n + 30)
    w = exp(10 a k),  m = 10 exp(10 b k)                                a, b: learned, from 0
    g = O tanh(E log(1 + c) + bias) [s > 0] 30 / (30 + s)               E, O: learned, O from 0
    r = log(c / (m p) + exp(g)) - log(1 + s / m)
    USER_PRIOR = w r

With a = b = g = 0 this is the late fusion of `training/methods/late_fusion.py`. The factor k keeps w and m of rare tags
where they start: with few users to learn from, they would drift without a counter-example and spoil the prior for new
users. g, the population prior, is what the training users' other tags say about the tags that this user has not used.
"""

import torch
from torch import Tensor, nn

from training.model.preference import bounded

STEP = 10.0
"""Multiplies a and b, so that the optimizer's steps on them are ten times as large as on other weights."""

PRIOR_COUNTS = 10.0
"""Initial m: the shares p weigh as much as this many tags of the user's own."""

SHRINKAGE = 30.0
"""Training users of a tag at which k is a half."""

OWN_COUNTS = 30.0
"""Tags in a history at which g is halved: a user's own counts replace what the population expects."""

HIDDEN = 64
LIMIT = 15.0
"""Bound of g, so that exp(g) stays finite."""


class HistoryPath(nn.Module):
    """w r, the history's part of the logits: raw counts float [batch, N] to USER_PRIOR float32 [batch, N].

    The buffers `shares` (p) and `users` (n), float [N], are set by `start_from` and saved with the weights.
    """

    shares: Tensor
    users: Tensor

    def __init__(self, tags: int, *, population: bool) -> None:
        """`tags` is N. Without `population`, g is 0."""
        super().__init__()
        self.a = nn.Parameter(torch.zeros(tags))
        self.b = nn.Parameter(torch.zeros(tags))
        self.register_buffer("shares", torch.full((tags,), 1 / tags))
        self.register_buffer("users", torch.zeros(tags))
        self.population = PopulationPrior(tags) if population else None

    @torch.no_grad()
    def start_from(self, total: Tensor, users: Tensor) -> None:
        """Set p from the counts of each tag over all training pictures, and n; float [N] both."""
        self.shares.copy_((total + 1) / (total.sum() + len(total)))
        self.users.copy_(users)

    def weights(self) -> tuple[Tensor, Tensor]:
        """w and m, float [N], both positive."""
        k = self.users / (self.users + SHRINKAGE)
        return torch.exp(STEP * k * self.a), PRIOR_COUNTS * torch.exp(STEP * k * self.b)

    def forward(self, counts: Tensor) -> Tensor:
        """Exactly 0 for a row of zeros; finite for any row. Each row depends on itself alone."""
        counts = bounded(counts)
        size = counts.sum(1, keepdim=True)
        w, m = self.weights()
        own = counts / (m * self.shares)
        if self.population is None:
            evidence = torch.log1p(own)
        else:
            evidence = torch.log(own + torch.exp(self.population(counts, size)))
        return w * (evidence - torch.log1p(size / m))


class PopulationPrior(nn.Module):
    """g: what to expect of a user's tags from the tags that the user has used."""

    def __init__(self, tags: int) -> None:
        """`tags` is N. Frozen until the second stage of training."""
        super().__init__()
        self.encode = nn.Linear(tags, HIDDEN)
        self.decode = nn.Linear(HIDDEN, tags, bias=False)
        nn.init.normal_(self.encode.weight, std=0.25)
        nn.init.zeros_(self.encode.bias)
        nn.init.zeros_(self.decode.weight)
        self.requires_grad_(False)

    def forward(self, counts: Tensor, size: Tensor) -> Tensor:
        """g, float [batch, N], of bounded counts [batch, N] and their sums `size` [batch, 1]; 0 where the sum is 0."""
        g = self.decode(torch.tanh(self.encode(torch.log1p(counts))))
        shown = (size > 0).to(g.dtype) * OWN_COUNTS / (OWN_COUNTS + size)
        return (g * shown).clamp(-LIMIT, LIMIT)
