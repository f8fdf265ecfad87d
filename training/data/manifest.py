"""The manifest: which picture, whose, with which tags, for training or test.

A data set is a folder with `manifest.parquet` (columns `image`: path under the folder, `user`, `tags`: list of
strings, `split`: train or test) and `vocabulary.txt` (one tag a line, in the order of the model's tensors).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from altreco_client import Vocabulary
from numpy.typing import NDArray

from training.errors import DataError

MANIFEST_FILE = "manifest.parquet"
VOCABULARY_FILE = "vocabulary.txt"
SCHEMA = {"image": pl.String, "user": pl.String, "tags": pl.List(pl.String), "split": pl.String}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Pictures in the order of the file; `users[i]` indexes `user_names`, `tags[i]` holds tag indices."""

    root: Path
    vocabulary: Vocabulary
    images: Sequence[str]
    users: NDArray[np.int64]
    user_names: Sequence[str]
    tags: Sequence[NDArray[np.int64]]
    train: NDArray[np.bool_]

    def rows(self, split: str) -> NDArray[np.int64]:
        """The rows of "train" or "test"."""
        return np.flatnonzero(self.train == (split == "train"))

    def multi_hot(self, row: int) -> NDArray[np.float32]:
        """The picture's tags as 0/1, float32 [N]."""
        hot = np.zeros(len(self.vocabulary), dtype=np.float32)
        hot[self.tags[row]] = 1
        return hot


def read_manifest(root: Path) -> Manifest:
    """Read a data set; raises DataError that says what is missing. Tags outside the vocabulary are left out."""
    vocabulary = _read_vocabulary(root / VOCABULARY_FILE)
    frame = _read_frame(root / MANIFEST_FILE)
    users = frame["user"].unique(maintain_order=True)
    user_index = {name: i for i, name in enumerate(users)}
    manifest = Manifest(
        root=root,
        vocabulary=vocabulary,
        images=frame["image"].to_list(),
        users=np.array([user_index[name] for name in frame["user"]], dtype=np.int64),
        user_names=users.to_list(),
        tags=[_indices(tags, vocabulary) for tags in frame["tags"]],
        train=(frame["split"] == "train").to_numpy(),
    )
    if not any(len(manifest.tags[row]) for row in manifest.rows("train")):
        raise DataError(f"{root}: no training picture has a tag of {VOCABULARY_FILE}; is it another data set's?")
    return manifest


def _read_vocabulary(path: Path) -> Vocabulary:
    try:
        return Vocabulary(tuple(path.read_text(encoding="utf-8").split("\n")[:-1]))
    except FileNotFoundError as error:
        raise DataError(f"no vocabulary at {path}: expected a text file with one tag a line") from error
    except ValueError as error:
        raise DataError(f"vocabulary {path}: {error}") from error


def _read_frame(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(
            f"no manifest at {path}; `python -m training.data.synthetic {path.parent}` makes a data set"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is no Parquet file: {error}") from error
    wrong = [name for name, dtype in SCHEMA.items() if frame.schema.get(name) != dtype]
    if wrong:
        raise DataError(f"{path}: column {wrong[0]!r} is {frame.schema.get(wrong[0])}: expected {dict(SCHEMA)}")
    if splits := set(frame["split"]) - {"train", "test"}:
        raise DataError(f"{path}: split {sorted(map(str, splits))}: expected train or test")
    if (frame["split"] == "train").sum() == 0:
        raise DataError(f"{path} has no training pictures")
    return frame


def _indices(tags: Sequence[str], vocabulary: Vocabulary) -> NDArray[np.int64]:
    return np.unique(np.array([vocabulary.index[t] for t in tags if t in vocabulary.index], dtype=np.int64))
