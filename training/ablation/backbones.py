"""The study's own pretrained backbones, in place of ImageNet's: trained on the tags of other generated pictures."""

from dataclasses import replace
from pathlib import Path

from training.checkpoint import load_checkpoint
from training.data.synthetic import SyntheticSettings, generate
from training.options import Options
from training.presets import preset
from training.settings import BackboneSettings
from training.train import train

PICTURES = SyntheticSettings(pictures=3600, users=60, test_share=0.05, seed=1007)
EPOCHS = 4

NARROW, CONVNEXT = "narrow", "convnext"
OTHERS = (NARROW, CONVNEXT)
"""Each has a row of A1: a ResNet with stages of half the width, and a newer kind of network."""


def other(name: str, resnet: BackboneSettings) -> BackboneSettings:
    """One of OTHERS, of about the size of a `resnet`."""
    widths = resnet.config["hidden_sizes"]
    halves = [width // 2 for width in widths]
    if name == NARROW:  # not its stem: torch 2.13 on CPUs corrupts memory in one of 8 channels
        config = {**resnet.config, "hidden_sizes": halves}
    else:  # the 3x3 convolution of a bottleneck is narrower than its output
        hidden = halves if resnet.config["layer_type"] == "bottleneck" else widths
        patch = 8 if resnet.config.get("downsample_in_first_stage") else 4
        config = {
            "model_type": "convnext",
            "hidden_sizes": hidden,
            "depths": resnet.config["depths"],
            "patch_size": patch,
        }
    return BackboneSettings(config=config)


def folder_of(backbone: str, name: str) -> str:
    """Where the one of OTHERS is whose study has this backbone."""
    return f"{backbone}-{name}"


def pretrained(size: str, work: Path, device: str, name: str = "") -> Path:
    """Train a backbone unless it is there, as a folder that `transformers` reads. `name`: one of OTHERS."""
    folder = work / f"{size}-backbone"
    settings = preset(f"{size}/A1", epochs=EPOCHS, seed=1007)
    if name:
        folder = Path(folder_of(str(folder), name))
        settings = replace(settings, model=replace(settings.model, backbone=other(name, settings.model.backbone)))
    if not folder.exists():
        checkpoint = work / f"{size}-pretrained{name and f'-{name}'}.pt"
        train(settings, generate(work / "pretraining-data", PICTURES), checkpoint, options=Options(device=device))
        partial = folder.with_name(folder.name + ".partial")
        load_checkpoint(checkpoint).model.visual_encoder.backbone.save_pretrained(partial)
        partial.rename(folder)
    return folder
