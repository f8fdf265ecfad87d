"""A model small enough to export and serve in seconds, with the committed configs and their 1,540 tags."""

import shutil
from pathlib import Path

import torch
from altreco_client import Vocabulary

from training.checkpoint import Checkpoint, save_checkpoint
from training.model import ALTReco
from training.settings import ModelSettings, TrainSettings, resnet

TAGS = 1540
REPOSITORY = Path(__file__).parent.parent / "model_repository"


def tiny_settings(**changes: object) -> TrainSettings:
    backbone = resnet(embedding_size=16, hidden_sizes=(16, 16, 16, 32), depths=(1, 1, 1, 1), layer_type="basic")
    return TrainSettings(**{"preset": "tiny", "model": ModelSettings(backbone=backbone), **changes})


def tiny_model(tags: int = TAGS, seed: int = 0) -> ALTReco:
    """Random weights, made such that image and history both move the scores all over 0 to 1."""
    torch.manual_seed(seed)
    model = ALTReco(tiny_settings().model, tags)
    with torch.no_grad():
        model.classifier.fc2.weight *= 30
        model.preference_encoder.layers[-1].weight *= 30
        for _ in range(20):  # batch normalization learns the pictures' statistics
            model(torch.randint(0, 256, (8, 224, 224, 3), dtype=torch.uint8), torch.rand(8, tags))
    return model.eval()


def save_tiny_checkpoint(path: Path, tags: int = TAGS, seed: int = 0) -> Path:
    vocabulary = Vocabulary(tuple(f"tag-{i}" for i in range(tags)))
    model = tiny_model(tags, seed)
    save_checkpoint(path, Checkpoint(model=model, settings=tiny_settings(), vocabulary=vocabulary, metrics={}))
    return path


def copy_configs(destination: Path) -> Path:
    """The committed `config.pbtxt` files without any weights."""
    for config in REPOSITORY.glob("*/config.pbtxt"):
        (destination / config.parent.name).mkdir(parents=True)
        shutil.copy(config, destination / config.parent.name)
    return destination
