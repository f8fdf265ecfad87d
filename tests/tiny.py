"""A model small enough to export and serve in seconds, with the committed configs and their 1,540 tags."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from altreco_client import Vocabulary
from PIL import Image

from training.checkpoint import Checkpoint, save_checkpoint
from training.data.manifest import MANIFEST_FILE, SCHEMA, VOCABULARY_FILE
from training.model import ALTReco
from training.settings import ModelSettings, TrainSettings, resnet

TAGS = 1540
REPOSITORY = Path(__file__).parent.parent / "model_repository"


def tiny_settings(**changes: object) -> TrainSettings:
    backbone = resnet(embedding_size=16, hidden_sizes=(16, 16, 16, 32), depths=(1, 1, 1, 1), layer_type="basic")
    return TrainSettings(**{"preset": "tiny", "model": ModelSettings(backbone=backbone), **changes})


def served_settings() -> TrainSettings:
    """The tiny model with everything that a served one may have."""
    settings = tiny_settings()
    return replace(settings, model=replace(settings.model, history_path="hier"))


def tiny_model(tags: int = TAGS, seed: int = 0) -> ALTReco:
    """Random weights, made such that image and history both move the scores all over 0 to 1."""
    torch.manual_seed(seed)
    model = ALTReco(served_settings().model, tags)
    with torch.no_grad():
        model.classifier.fc2.weight *= 30
        model.preference_encoder.layers[-1].weight *= 30
        for _ in range(20):  # batch normalization learns the pictures' statistics
            model(torch.randint(0, 256, (8, 224, 224, 3), dtype=torch.uint8), torch.rand(8, tags))
        path = model.history_path
        path.start_from(torch.randint(0, 500, (tags,)).float(), torch.randint(0, 60, (tags,)).float())
        for weight in (path.a, path.b, path.population.decode.weight):
            weight.normal_(std=0.05)
    return model.eval()


def save_tiny_checkpoint(path: Path, tags: int = TAGS, seed: int = 0, *, hits: bool = False) -> Path:
    """A checkpoint with random weights, and beside it the data that it says it was trained on; `hits`: see below."""
    data = path.with_suffix(".data")
    vocabulary = write_tiny_data(data, tags)
    model = tiny_model(tags, seed)
    # Hundreds of its scores are as good as 1, and the processor's rounding decides which five are the best. So no tag
    # of a test picture is ever among them unless `hits`, or one processor would refuse a release that another takes.
    pictures = pl.read_parquet(data / MANIFEST_FILE)
    tested = pictures.filter(pl.col("split") == "test")["tags"].explode().unique()
    with torch.no_grad():
        if not hits:
            model.classifier.fc2.bias[[vocabulary.tags.index(tag) for tag in tested]] = -1e4
    checkpoint = Checkpoint(model=model, settings=served_settings(), vocabulary=vocabulary, metrics={}, data=data)
    save_checkpoint(path, checkpoint)
    return path


def write_tiny_data(folder: Path, tags: int = TAGS) -> Vocabulary:
    """24 pictures of noise by 4 users, each with 3 tags; every third is for testing."""
    rng = np.random.default_rng(0)
    names = [f"tag-{i}" for i in range(tags)]
    rows = []
    folder.mkdir()
    for i in range(24):
        pixels = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8).repeat(18, 0).repeat(18, 1)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
        rows.append((f"{i}.jpg", f"user-{i % 4}", rng.choice(names, 3).tolist(), "test" if i % 3 == 2 else "train"))
    pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(folder / MANIFEST_FILE)
    (folder / VOCABULARY_FILE).write_text("".join(f"{name}\n" for name in names))
    return Vocabulary(tuple(names))


def copy_configs(destination: Path) -> Path:
    """The committed `config.pbtxt` files without any weights."""
    for config in REPOSITORY.glob("*/config.pbtxt"):
        (destination / config.parent.name).mkdir(parents=True)
        shutil.copy(config, destination / config.parent.name)
    return destination
