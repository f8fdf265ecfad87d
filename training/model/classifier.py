"""The classifier C: personalized tags from e and u_p."""

import torch
from altreco_client.contract import ENCODING_SHAPE, PREFERENCE_DIM
from torch import Tensor, nn

FILTERS = (ENCODING_SHAPE[0], 32)
HIDDEN = 2048
"""Filters and units of the paper's public code; the paper itself gives no widths."""


class Classifier(nn.Module):
    """C: e [batch, channels, 7, 7] and u_p [batch, 128] to the logits of T_p, float [batch, N]."""

    def __init__(self, channels: int, tags: int) -> None:
        """`channels` of e; `tags` is N."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels + PREFERENCE_DIM, FILTERS[0], 3, padding=1)
        self.conv2 = nn.Conv2d(*FILTERS, 3, padding=1)
        self.fc1 = nn.Linear(FILTERS[1] * ENCODING_SHAPE[1] * ENCODING_SHAPE[2], HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, tags)

    def forward(self, encoding: Tensor, preference: Tensor) -> Tensor:
        """Logits: u_p is tiled over the h x w positions of e and concatenated to its channels."""
        tiled = preference[:, :, None, None].expand(-1, -1, *encoding.shape[2:])
        return self.tail(self.conv1(torch.cat([encoding, tiled], dim=1)))

    def tail(self, convolved: Tensor) -> Tensor:
        """All that follows the first convolution; the folded split of the export joins here."""
        x = torch.relu(self.conv2(torch.relu(convolved)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))
