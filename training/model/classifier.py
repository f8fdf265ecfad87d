"""The classifier C: personalized tags from e and u_p."""

import torch
from altreco_client.contract import ENCODING_SHAPE, PREFERENCE_DIM
from torch import Tensor, nn

from training.settings import ModelSettings

FILTERS = (ENCODING_SHAPE[0], 32)
HIDDEN = 2048
"""Filters and units of the paper's public code; the paper itself gives no widths."""


class Classifier(nn.Module):
    """C: e [batch, channels, 7, 7] and u_p [batch, 128] to the logits of T_p, float [batch, N]."""

    def __init__(self, channels: int, tags: int, settings: ModelSettings) -> None:
        """`channels` of e; `tags` is N."""
        super().__init__()
        self.channels = channels
        self.integration = settings.integration if settings.user_preference else None
        self.project = None
        if self.integration in ("addition", "multiplication"):
            # The paper does not say how 128 preferences meet the 2,048 channels of e: by a linear map here.
            self.project = nn.Linear(PREFERENCE_DIM, channels, bias=False)
        inputs = channels + PREFERENCE_DIM if self.integration == "concatenation" else channels
        self.conv1 = nn.Conv2d(inputs, FILTERS[0], 3, padding=1)
        self.conv2 = nn.Conv2d(*FILTERS, 3, padding=1)
        self.fc1 = nn.Linear(FILTERS[1] * ENCODING_SHAPE[1] * ENCODING_SHAPE[2], HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, tags)

    def forward(self, encoding: Tensor, preference: Tensor | None) -> Tensor:
        """Logits; `preference` is None exactly for a model without user preference."""
        return self.tail(self.conv1(self._integrate(encoding, preference)))

    def tail(self, convolved: Tensor) -> Tensor:
        """All that follows the first convolution; the folded split of the export joins here."""
        x = torch.relu(self.conv2(torch.relu(convolved)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))

    def _integrate(self, encoding: Tensor, preference: Tensor | None) -> Tensor:
        """u_p is tiled over the h x w positions of e and concatenated to its channels, added, or multiplied."""
        if preference is None:
            return encoding
        if self.project is not None:
            preference = self.project(preference)
        tiled = preference[:, :, None, None].expand(-1, -1, *encoding.shape[2:])
        if self.integration == "addition":
            return encoding + tiled
        if self.integration == "multiplication":
            return encoding * tiled
        return torch.cat([encoding, tiled.to(encoding.dtype)], dim=1)
