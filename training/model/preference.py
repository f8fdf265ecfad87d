"""The auto-encoder of tag histories: U_E and U_D."""

from itertools import pairwise

import torch
from altreco_client.contract import PREFERENCE_DIM
from torch import Tensor, nn

WIDTHS = (1024, 512, 256, PREFERENCE_DIM)
"""The encoder's widths; the decoder has them in reverse (paper, section IV a)."""

MAX_COUNT = 1e6
"""Larger counts are treated as this, so that sums over the tags stay finite."""


def bounded(counts: Tensor) -> Tensor:
    """Limit counts, float [batch, N], to [0, MAX_COUNT]; negative ones and NaN become 0."""
    return torch.where(counts > 0, counts, 0.0).clamp(max=MAX_COUNT)


def normalized(counts: Tensor) -> Tensor:
    """Divide each row of counts, float [batch, N], by its largest: u_h (paper, section IV a). Zeros stay zeros."""
    counts = bounded(counts)
    largest = counts.amax(1, keepdim=True)
    return counts / torch.where(largest > 0, largest, 1.0)


class PreferenceEncoder(nn.Module):
    """U_E: raw counts, float [batch, N], to u_p, float [batch, 128]; relu, and tanh on u_p."""

    def __init__(self, tags: int) -> None:
        """`tags` is N."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((tags, *WIDTHS)))

    def forward(self, counts: Tensor) -> Tensor:
        """Return u_p alone, as serving needs it."""
        return self.activations(counts)[-1]

    def activations(self, counts: Tensor) -> list[Tensor]:
        """Return the activations of all four layers; the last is u_p."""
        x = normalized(counts)
        activations = []
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
            activations.append(x)
        return [*activations, torch.tanh(self.layers[-1](x))]


class PreferenceDecoder(nn.Module):
    """U_D: the encoder's activations to the logits of the history, float [batch, N].

    With `skips`, each layer also takes the encoder's activation of its own width, concatenated; for the first,
    that is u_p itself.
    """

    def __init__(self, tags: int, *, skips: bool) -> None:
        """`tags` is N."""
        super().__init__()
        self.skips = skips
        widths = WIDTHS[::-1]
        self.first = nn.Linear(widths[0], widths[0])
        self.layers = nn.ModuleList(nn.Linear(a + b * skips, b) for a, b in pairwise(widths))
        self.last = nn.Linear(widths[-1], tags)

    def forward(self, activations: list[Tensor]) -> Tensor:
        """Logits of the reconstruction; its sigmoid is the paper's reconstructed u_h."""
        *skipped, preference = activations
        x = torch.relu(self.first(preference))
        for layer, skip in zip(self.layers, reversed(skipped), strict=True):
            x = torch.relu(layer(torch.cat([x, skip], dim=1) if self.skips else x))
        return self.last(x)
