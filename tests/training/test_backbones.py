"""Pretrained backbones: their weights, and how they want their pixels."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from altreco_client import Vocabulary
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedModel

from tests.tiny import tiny_settings
from tests.training.backbones import config
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.errors import SettingsError
from training.model import ALTReco, VisualEncoder, pretrained_backbone
from training.settings import IMAGENET_MEAN, IMAGENET_STD, BackboneSettings, from_json, to_json

WEIGHTS = "model.safetensors"
RESNET_50 = {"hidden_sizes": [8, 8, 16, 16], "depths": [3, 4, 6, 3]}


def published(folder: Path, model_type: str, **changes: object) -> PreTrainedModel:
    """A classifier with random weights, saved as hubs have them."""
    torch.manual_seed(0)
    described = config(model_type, **changes)
    model = AutoModelForImageClassification.from_config(AutoConfig.for_model(**described))
    model.save_pretrained(folder)
    return model


def loaded(folder: Path) -> VisualEncoder:
    encoder = VisualEncoder(pretrained_backbone(str(folder)))
    encoder.load_pretrained(str(folder))
    return encoder


@pytest.mark.parametrize("model_type", ["resnet", "convnext", "swin", "beit", "dinov2"])
def test_the_weights_of_a_published_classifier_are_taken(tmp_path: Path, model_type: str) -> None:
    classifier = published(tmp_path, model_type)
    expected = classifier.base_model.state_dict()
    for name, weight in loaded(tmp_path).backbone.named_parameters():
        if not name.startswith("hidden_states_norms."):  # of the feature maps, which a classifier does not have
            assert torch.equal(weight, expected[name.removeprefix(f"{model_type}.")]), name


def test_of_a_published_resnet_50_the_last_bottleneck_is_left_out_and_of_no_other(tmp_path: Path) -> None:
    published(tmp_path / "bottleneck", "resnet", **RESNET_50)
    published(tmp_path / "basic", "resnet", **RESNET_50, layer_type="basic")
    assert loaded(tmp_path / "bottleneck").backbone.config.depths == [3, 4, 6, 2]
    assert loaded(tmp_path / "basic").backbone.config.depths == [3, 4, 6, 3]


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    published(tmp_path, "resnet")
    given = load_file(tmp_path / WEIGHTS)

    def refusal(weights: dict[str, torch.Tensor]) -> str:
        save_file(weights, tmp_path / WEIGHTS, metadata={"format": "pt"})
        with pytest.raises(SettingsError) as refused:
            loaded(tmp_path)
        return str(refused.value)

    count = len(loaded(tmp_path).backbone.state_dict())
    other_names = refusal({f"other.{name}": weight for name, weight in given.items()})
    assert f"{count} of the backbone's {count} tensors are missing or of another shape (embedder." in other_names
    few = {name: weight for name, weight in given.items() if "stages.0" in name}
    assert f" of the backbone's {count} tensors are missing" in refusal(few)
    name = "resnet.embedder.embedder.convolution.weight"
    wide = refusal({**given, name: torch.zeros(9, 3, 7, 7)})
    assert f"1 of the backbone's {count} tensors are missing or of another shape ({name.partition('.')[2]})" in wide
    deeper = {name.replace("stages.0.layers.0", "stages.0.layers.1"): weight.clone() for name, weight in given.items()}
    assert "they have more blocks" in refusal({**deeper, **given})


def normalized(encoder: VisualEncoder, grey: int) -> torch.Tensor:
    """What the backbone gets for a grey picture, float [1, 3, size, size]."""
    seen: list[torch.Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    encoder.eval()(torch.full((1, 224, 224, 3), grey, dtype=torch.uint8))
    return seen[0]


@pytest.mark.parametrize(
    ("preprocessor", "of_white", "size"),
    [
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 256, "width": 256}}, [1.0] * 3, 256),
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": 224}, [2.0] * 3, 224),
        ({"size": {"shortest_edge": 256}, "crop_size": 192, "do_center_crop": True}, None, 192),
        ({"do_normalize": False, "size": {"shortest_edge": 224}}, [1.0] * 3, 224),
        ({"image_mean": [1.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 127.5}, [1.0] * 3, 224),
        ({"image_mean": [100.0] * 3, "image_std": [10.0] * 3, "do_rescale": False}, [15.5] * 3, 224),
    ],
)
def test_pixels_are_as_the_preprocessor_says_and_stay_so_in_the_checkpoint(
    tmp_path: Path, preprocessor: dict[str, object], of_white: list[float] | None, size: int
) -> None:
    published(tmp_path / "hub", "resnet")
    (tmp_path / "hub" / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    model = replace(tiny_settings().model, backbone=pretrained_backbone(str(tmp_path / "hub")))
    settings = tiny_settings(model=model)
    assert from_json(to_json(settings)) == settings
    network = ALTReco(model, 2)
    checkpoint = Checkpoint(model=network, settings=settings, vocabulary=Vocabulary(("a", "b")), metrics={})
    save_checkpoint(tmp_path / "tiny.pt", checkpoint)
    pixels = normalized(load_checkpoint(tmp_path / "tiny.pt").model.visual_encoder, 255)
    if of_white is None:
        of_white = [(1 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    assert pixels.shape == (1, 3, size, size)
    torch.testing.assert_close(pixels.amin((0, 2, 3)), torch.tensor(of_white), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(pixels.amax((0, 2, 3)), torch.tensor(of_white), rtol=1e-5, atol=1e-4)


def test_pixels_that_cannot_be_had_are_refused(tmp_path: Path) -> None:
    published(tmp_path, "resnet")
    preprocessor = tmp_path / "preprocessor_config.json"
    preprocessor.write_text(json.dumps({"size": {"height": 256, "width": 128}}))
    with pytest.raises(SettingsError, match="expected square ones"):
        pretrained_backbone(str(tmp_path))
    preprocessor.write_text(json.dumps({"image_std": [0.5, 0.5, 0.0]}))
    with pytest.raises(SettingsError, match="three deviations above 0"):
        pretrained_backbone(str(tmp_path))


def test_a_checkpoint_from_before_the_pixels_were_kept_has_those_of_imagenet() -> None:
    settings = tiny_settings()
    described = json.loads(to_json(settings))
    for name in ("mean", "std", "size"):
        del described["model"]["backbone"][name]
    assert from_json(json.dumps(described)) == settings
    assert settings.model.backbone == BackboneSettings(config=settings.model.backbone.config)
