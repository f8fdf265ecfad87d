"""The classifier C: personalized tags from e and u_p."""

import torch
from altreco_client.contract import ENCODING_SHAPE, PREFERENCE_DIM
from torch import Tensor, nn
from torch.nn import functional

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
        """Return the logits; `preference` is None for a model without user preference."""
        return self.tail(self.conv1(self._integrate(encoding, preference)))

    def image_part(self, encoding: Tensor) -> Tensor:
        """Return e's part of the first convolution and the bias, float [batch, 64, 7, 7]; not for multiplication."""
        return functional.conv2d(encoding, self.conv1.weight[:, : self.channels], self.conv1.bias, padding=1)

    def preference_map(self) -> Tensor:
        """Return M, float [128, 64 * 7 * 7]: u_p M is u_p's part of the first convolution; not for multiplication."""
        units = torch.eye(PREFERENCE_DIM, device=self.conv1.weight.device)
        weight = self.conv1.weight[:, -PREFERENCE_DIM:]
        if self.project is not None:
            units, weight = self.project(units), self.conv1.weight
        tiled = units[:, :, None, None].expand(-1, -1, *ENCODING_SHAPE[1:])
        return functional.conv2d(tiled, weight, padding=1).flatten(1)

    def tail(self, convolved: Tensor) -> Tensor:
        """Return the logits from the output of the first convolution; the folded split of the export joins here."""
        x = torch.relu(self.conv2(torch.relu(convolved)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))

    def _integrate(self, encoding: Tensor, preference: Tensor | None) -> Tensor:
        """Tile u_p over the 7 x 7 positions of e, and concatenate it to e's channels, add or multiply it."""
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
