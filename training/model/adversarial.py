"""The adversarial pair: generator G of generalized tags and discriminator D."""

from itertools import pairwise

from altreco_client.contract import ENCODING_SHAPE
from torch import Tensor, nn

FILTERS = (64, 32, 32)
"""G's filters. The paper gives none: the classifier's two, and the last once more."""

UNITS = (1024, 256, 64, 16)
"""D's units (paper, section IV-A a)."""


class Generator(nn.Module):
    """G: e [batch, channels, 7, 7] to the logits of T_g, float [batch, N]; it never sees the user."""

    def __init__(self, channels: int, tags: int) -> None:
        """`channels` of e; `tags` is N."""
        super().__init__()
        convolutions = [(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise((channels, *FILTERS))]
        self.convolutions = nn.Sequential(*(layer for pair in convolutions for layer in pair))
        self.fc = nn.Linear(FILTERS[-1] * ENCODING_SHAPE[1] * ENCODING_SHAPE[2], tags)

    def forward(self, encoding: Tensor) -> Tensor:
        """Logits; their sigmoid is what D sees."""
        return self.fc(self.convolutions(encoding).flatten(1))


class Discriminator(nn.Module):
    """D: tag confidences [batch, N] to one logit [batch], high for tags that a user gave."""

    def __init__(self, tags: int) -> None:
        """`tags` is N."""
        super().__init__()
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise((tags, *UNITS))]
        self.layers = nn.Sequential(*(layer for pair in layers for layer in pair), nn.Linear(UNITS[-1], 1))

    def forward(self, tags: Tensor) -> Tensor:
        """Logit of "a user gave these"."""
        return self.layers(tags).squeeze(1)
