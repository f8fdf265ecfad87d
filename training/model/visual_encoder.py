"""The visual encoder F: pixels to e."""

import torch
from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig

from training.settings import BackboneSettings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class VisualEncoder(nn.Module):
    """F (paper, section IV): uint8 [batch, 224, 224, 3] RGB to e, float [batch, channels, 7, 7].

    Normalization is part of the network, so that training, ONNX and every client agree on it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, settings: BackboneSettings) -> None:
        """Build the backbone with random weights."""
        super().__init__()
        self.backbone = ResNetBackbone(
            ResNetConfig(  # type: ignore[call-arg]  # out_features is set by a mixin
                embedding_size=settings.embedding_size,
                hidden_sizes=list(settings.hidden_sizes),
                depths=list(settings.depths),
                layer_type=settings.layer_type,
                out_features=[f"stage{len(settings.depths)}"],
            )
        )
        self.channels = settings.hidden_sizes[-1]
        # x / 255, minus mean, over std, as one multiplication and one addition
        std = torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1) / std, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """e, the visual encoding."""
        pixels = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return self.backbone(pixels).feature_maps[-1]
