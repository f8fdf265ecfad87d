"""A data set of five pictures, and a random manifest of many."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from altreco_client import Vocabulary
from PIL import Image

from tests.training.ablation import finished_parts
from training.ablation.parts import Part
from training.data.histories import Histories, build_histories
from training.data.manifest import SPLITS, Manifest, read_manifest
from training.data.ragged import Ragged, Texts

TAGS = ("sea", "beach", "sky", "dog", "cat")
ROWS = [
    ("a.png", "ann", ["sea", "sky"], "train"),
    ("b.png", "bob", ["dog"], "train"),
    ("c.png", "ann", ["sea", "unheard-of"], "train"),
    ("d.png", "ann", ["sea", "beach"], "test"),
    ("e.png", "eve", ["cat"], "test"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five pictures; the left half of each is black, the right half white."""
    half = np.zeros((300, 300, 3), dtype=np.uint8)
    half[:, 150:] = 255
    for name, *_ in ROWS:
        Image.fromarray(half).save(tmp_path / name)
    write(tmp_path, pl.DataFrame(ROWS, schema=["image", "user", "tags", "split"], orient="row"))
    (tmp_path / "vocabulary.txt").write_text("".join(f"{tag}\n" for tag in TAGS))
    return tmp_path


@pytest.fixture
def parts(tmp_path: Path) -> list[Part]:
    """The parts of an ablation study whose runs are all done."""
    return finished_parts(tmp_path / "work")


def write(root: Path, frame: pl.DataFrame) -> None:
    frame.write_parquet(root / "manifest.parquet")


def manifest_and_histories(root: Path) -> tuple[Manifest, Histories]:
    manifest = read_manifest(root)
    return manifest, build_histories(manifest)


def random_manifest(pictures: int, users: int, tags: int) -> Manifest:
    """One picture in ten for testing; 0 to 4 tags each."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, tags, (pictures, 4)), rng.random((pictures, 4)) < 0.5
    rows = [np.unique(indices[kept]).astype(np.int32) for indices, kept in zip(*drawn, strict=True)]
    names = np.frombuffer(b"x" * pictures, dtype=np.uint8)
    return Manifest(
        root=Path(),
        vocabulary=Vocabulary(tuple(map(str, range(tags)))),
        images=Texts(Ragged.from_parts([np.ones(pictures, dtype=np.int64)], [names])),
        users=rng.integers(0, users, pictures),
        user_names=[str(user) for user in range(users)],
        tags=Ragged.from_parts([np.array([len(row) for row in rows])], rows),
        split=np.where(np.arange(pictures) % 10 == 0, SPLITS.index("test"), SPLITS.index("train")).astype(np.int8),
    )
