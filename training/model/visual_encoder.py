"""The visual encoder F: pixels to e."""

import torch
from altreco_client.contract import ENCODING_SHAPE
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoBackbone, AutoConfig

from training.errors import SettingsError
from training.settings import BackboneSettings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESNET_50 = [3, 4, 6, 3]
ACTIVATION_46 = [3, 4, 6, 2]
"""Depths of ResNet-50, and without its last bottleneck (paper, section IV)."""


class VisualEncoder(nn.Module):
    """F (paper, section IV): uint8 [batch, 224, 224, 3] RGB to e, float [batch, channels, 7, 7].

    Normalization is part of the network, so that training, ONNX and every client agree on it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, settings: BackboneSettings) -> None:
        """Build the backbone with random weights; raises SettingsError if `transformers` cannot."""
        super().__init__()
        try:
            self.backbone = AutoBackbone.from_config(AutoConfig.for_model(**settings.config))
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            raise SettingsError(f"no backbone of type {settings.config.get('model_type')!r}: {error}") from error
        self.channels = self.backbone.channels[-1]
        # x / 255, minus mean, over std, as one multiplication and one addition
        std = torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1) / std, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """e, the visual encoding; a backbone with a finer map than 7 x 7 is averaged down to it."""
        pixels = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        encoding = self.backbone(pixels).feature_maps[-1]
        if encoding.shape[2:] != ENCODING_SHAPE[1:]:
            encoding = functional.adaptive_avg_pool2d(encoding, ENCODING_SHAPE[1:])
        return encoding

    def load_pretrained(self, name: str) -> None:
        """Take the weights of a hub's model or of a local folder; raises SettingsError if they cannot be loaded."""
        # Not AutoBackbone.from_pretrained: it asks the hub first, so it takes no local folder.
        backbone_class = type(self.backbone)
        try:
            pretrained = backbone_class.from_pretrained(name, config=self.backbone.config)
        except (OSError, ValueError, RuntimeError) as error:
            raise SettingsError(_unreachable(name, error)) from error
        self.backbone.load_state_dict(pretrained.state_dict())


def pretrained_backbone(name: str) -> BackboneSettings:
    """Settings of a hub's model (`microsoft/resnet-50`) or of a local folder in the same format.

    The last bottleneck of ResNet-50 is left out, as in the paper. Raises SettingsError if the model cannot be loaded.
    """
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise SettingsError(_unreachable(name, error)) from error
    values = config.to_diff_dict()
    if config.model_type == "resnet" and config.depths == RESNET_50:
        values["depths"] = ACTIVATION_46
    derived = ("architectures", "dtype", "transformers_version", "out_features", "out_indices", "stage_names")
    kept = {key: value for key, value in values.items() if key not in derived}
    return BackboneSettings(config={**kept, "model_type": config.model_type}, weights=name)


def _unreachable(name: str, error: Exception) -> str:
    reason = str(error).splitlines()[0]
    return f"no pretrained backbone {name!r}: {reason}. Expected a model of the Hugging Face hub, or a folder with one"
