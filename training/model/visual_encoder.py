"""The visual encoder F: pixels to e."""

from collections.abc import Mapping, Set
from typing import Any

import torch
from altreco_client.contract import ENCODING_SHAPE, IMAGE_SIZE
from torch import Tensor, nn
from torch.nn import functional

from training.errors import SettingsError
from training.settings import IMAGENET_MEAN, IMAGENET_STD, BackboneSettings

RESNET_50 = [3, 4, 6, 3]
ACTIVATION_46 = [3, 4, 6, 2]
"""Depths of ResNet-50, and without its last bottleneck (paper, section IV)."""

OUTPUT_NORMS = "hidden_states_norms."
"""Norms of the feature maps that only a backbone has: a classifier's weights lack them, and they start afresh."""


class VisualEncoder(nn.Module):
    """F (paper, section IV): uint8 [batch, 224, 224, 3] RGB to e, float [batch, channels, 7, 7].

    Normalization is part of the network, so that training, ONNX and every client agree on it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, settings: BackboneSettings) -> None:
        """Build the backbone with random weights; raises SettingsError if `transformers` cannot."""
        from transformers import AutoBackbone, AutoConfig  # noqa: PLC0415 - takes seconds, and a plan or an error no network

        super().__init__()
        try:
            self.backbone = AutoBackbone.from_config(AutoConfig.for_model(**settings.config))
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            raise SettingsError(f"no backbone of type {settings.config.get('model_type')!r}: {error}") from error
        self.channels = self.backbone.channels[-1]
        self.size = settings.size
        # x / 255, minus mean, over std, as one multiplication and one addition
        std = torch.tensor(settings.std).reshape(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -torch.tensor(settings.mean).reshape(1, 3, 1, 1) / std, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """e, the visual encoding; a backbone with a finer map than 7 x 7 is averaged down to it."""
        pixels = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        if self.size != IMAGE_SIZE:
            pixels = functional.interpolate(pixels, size=(self.size, self.size), mode="bilinear")
        encoding = self.backbone(pixels).feature_maps[-1]
        if encoding.shape[2:] != ENCODING_SHAPE[1:]:
            encoding = functional.adaptive_avg_pool2d(encoding, ENCODING_SHAPE[1:])
        return encoding

    def load_pretrained(self, name: str) -> None:
        """Take the weights of a hub's model or of a local folder; raises SettingsError for ones that do not fit."""
        from transformers.utils import logging  # noqa: PLC0415

        # Not AutoBackbone.from_pretrained: it asks the hub first, so it takes no local folder.
        backbone_class = type(self.backbone)
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # it would list what _check_loaded judges
        try:
            pretrained, found = backbone_class.from_pretrained(
                name, config=self.backbone.config, output_loading_info=True, ignore_mismatched_sizes=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise SettingsError(_unreachable(name, error)) from error
        finally:
            logging.set_verbosity(verbosity)
        self._check_loaded(name, found)
        self.backbone.load_state_dict(pretrained.state_dict())

    def _check_loaded(self, name: str, found: Mapping[str, Set[Any]]) -> None:
        """Raise SettingsError for weights that lack a part of the backbone, or are those of a deeper one.

        Other weights may be left over: those of classifiers, poolers and final norms.
        """
        mismatched = {key for key, *_ in found["mismatched_keys"]}
        lost = {key for key in found["missing_keys"] if not key.startswith(OUTPUT_NORMS)} | mismatched
        if lost:
            raise SettingsError(
                f"the weights of {name!r} do not fit their configuration: {len(lost)} of the backbone's "
                f"{len(self.backbone.state_dict())} tensors are missing or of another shape ({_first(lost)})"
            )
        modules = {name for name, _ in self.backbone.named_modules()}
        left_out = f"encoder.stages.{len(ACTIVATION_46) - 1}.layers.{ACTIVATION_46[-1]}."
        keys = {key.removeprefix(f"{self.backbone.base_model_prefix}.") for key in found["unexpected_keys"]}
        more = {key for key in keys if _of_a_block_beyond(key, modules)}
        if self.backbone.config.model_type == "resnet":
            more = {key for key in more if not key.startswith(left_out)}
        if more:
            raise SettingsError(
                f"the weights of {name!r} do not fit their configuration: they have more blocks, with {len(more)} "
                f"tensors ({_first(more)})"
            )


def pretrained_backbone(name: str) -> BackboneSettings:
    """Settings of a hub's model (`microsoft/resnet-50`) or of a local folder in the same format.

    The last bottleneck of ResNet-50 is left out, as in the paper. Pixels are normalized and scaled as the model's
    preprocessor says, if it has one. Raises SettingsError if the model cannot be loaded.
    """
    from transformers import AutoConfig  # noqa: PLC0415
    from transformers.models.auto.image_processing_auto import get_image_processor_config  # noqa: PLC0415

    try:
        config, preprocessor = AutoConfig.from_pretrained(name), get_image_processor_config(name)
    except (OSError, ValueError) as error:
        raise SettingsError(_unreachable(name, error)) from error
    values = config.to_diff_dict()
    if config.model_type == "resnet" and config.layer_type == "bottleneck" and config.depths == RESNET_50:
        values["depths"] = ACTIVATION_46
    derived = ("architectures", "dtype", "transformers_version", "out_features", "out_indices", "stage_names")
    kept = {key: value for key, value in values.items() if key not in derived}
    pixels = _pixels(preprocessor) if preprocessor else {}
    return BackboneSettings(config={**kept, "model_type": config.model_type}, weights=name, **pixels)


def _pixels(preprocessor: Mapping[str, Any]) -> dict[str, Any]:
    """BackboneSettings' mean, std and size from a preprocessor's configuration."""
    # The preprocessor scales to 0 to 1 or otherwise before it subtracts the mean.
    factor = (
        round(255 * preprocessor.get("rescale_factor", 1 / 255), 9) if preprocessor.get("do_rescale", True) else 255
    )
    mean, std = (preprocessor.get("image_mean", IMAGENET_MEAN), preprocessor.get("image_std", IMAGENET_STD))
    if not preprocessor.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    size = preprocessor.get("crop_size" if preprocessor.get("do_center_crop") else "size", IMAGE_SIZE)
    sides = {size} if isinstance(size, int) else {*size.values()}
    if len(sides) > 1:
        raise SettingsError(f"the preprocessor's pictures are of {size}: expected square ones")
    return {
        "mean": tuple(value / factor for value in mean),
        "std": tuple(value / factor for value in std),
        "size": sides.pop(),
    }


def _of_a_block_beyond(key: str, modules: Set[str]) -> bool:
    """Whether the tensor is of a numbered block that a list of blocks in the backbone does not have."""
    path = key.split(".")
    return any(
        part.isdigit() and ".".join(path[:place]) in modules and ".".join(path[: place + 1]) not in modules
        for place, part in enumerate(path)
    )


def _first(names: Set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + ", ..." * (len(names) > 3)


def _unreachable(name: str, error: Exception) -> str:
    reason = str(error).splitlines()[0]
    return f"no pretrained backbone {name!r}: {reason}. Expected a model of the Hugging Face hub, or a folder with one"
