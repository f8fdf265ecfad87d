"""The manifest of a data set: its pictures, with user, tags and split.

A data set is a folder with `manifest.parquet` (columns `image`: path under the folder, `user`, `tags`: list of
strings, `split`: one of SPLITS; optional: those of OPTIONAL) and `vocabulary.txt` (one tag per line, in the order of
the model's tensors). See docs/data.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from altreco_client import Vocabulary
from numpy.typing import NDArray

from training.data.columns import Context, Labels, Part, indices, pieces, read_context, read_labels, read_spans, utf8
from training.data.ragged import Ragged, Texts
from training.errors import DataError
from training.settings import TrainSettings

MANIFEST_FILE = "manifest.parquet"
VOCABULARY_FILE = "vocabulary.txt"
SCHEMA = {"image": pl.String, "user": pl.String, "tags": pl.List(pl.String), "split": pl.String}
CONTEXT: dict[str, pl.DataType | type[pl.DataType]] = {
    "taken": pl.Datetime("us"),
    "longitude": pl.Float64,
    "latitude": pl.Float64,
    "labels": pl.List(pl.String),
}
SHARDS: dict[str, pl.DataType | type[pl.DataType]] = {"shard_offset": pl.Int64, "shard_bytes": pl.Int64}
OPTIONAL = CONTEXT | SHARDS
LONGITUDE, LATITUDE = 180, 90
"""Largest absolute values of coordinates, in degrees."""
SPLITS = ("train", "validation", "test", "history")
"""`history`: the past pictures of a user without training pictures. Only their tags are used."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The pictures, in the order of the file.

    `users`, int64 [rows], indexes `user_names`. `tags[row]` are indices into the vocabulary: int32, sorted, unique.
    `split`, int8 [rows], indexes SPLITS. `context` and `labels` are None in a manifest without their columns. `spans`,
    int64 [rows, 2]: where a picture's bytes begin in its shard, and their number; -1 for one in a file of its own, and
    None if all are. `given_tags`: number of tags in the file; `unknown_tags`: those outside the vocabulary, which are
    left out.
    """

    root: Path
    vocabulary: Vocabulary
    images: Texts
    users: NDArray[np.int64]
    user_names: Sequence[str]
    tags: Ragged
    split: NDArray[np.int8]
    context: Context | None = None
    labels: Labels | None = None
    spans: NDArray[np.int64] | None = None
    given_tags: int = 0
    unknown_tags: int = 0

    def rows(self, split: str) -> NDArray[np.int64]:
        """The rows of one of SPLITS, in the order of the file."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def multi_hot(self, row: int) -> NDArray[np.float32]:
        """Return a picture's tags as 0/1, float32 [N]."""
        hot = np.zeros(len(self.vocabulary), dtype=np.float32)
        hot[self.tags[row]] = 1
        return hot


def hold_out(manifest: Manifest, share: float, seed: int) -> Manifest:
    """Move a random share of the training pictures to the validation split, unless the data set has one.

    Moves at least one picture, and never all; raises DataError if that is impossible.
    """
    if len(manifest.rows("validation")):
        return manifest
    rows = manifest.rows("train")
    if not 0 < share < 1 or len(rows) < 2:
        raise DataError(
            f"cannot hold out {share} of {len(rows)} training pictures: expected 0 < share < 1 and at least 2 pictures"
        )
    count = min(len(rows) - 1, max(1, round(share * len(rows))))
    split = manifest.split.copy()
    split[np.random.default_rng(seed).choice(rows, count, replace=False)] = SPLITS.index("validation")
    return replace(manifest, split=split)


def hold_out_users(manifest: Manifest, share: float, seed: int) -> Manifest:
    """Hold out a random share of the training users for validation, unless the data set has validation users.

    Half of each one's training pictures become validation pictures, the others their history. At least one user with
    two pictures, never all users; raises DataError where that cannot be.
    """
    rows, validation = manifest.rows("train"), manifest.rows("validation")
    users, pictures = np.unique(manifest.users[rows], return_counts=True)
    if not np.isin(manifest.users[validation], users).all():
        return manifest
    several = users[pictures > 1]
    if not 0 < share < 1 or len(users) < 2 or len(several) == 0:
        raise DataError(
            f"cannot hold out {share} of {len(users)} training users: expected 0 < share < 1 and at least 2 users, one "
            "of them with 2 pictures"
        )
    rng = np.random.default_rng(seed)
    count = min(len(users) - 1, len(several), max(1, round(share * len(users))))
    held = rng.permutation(rows[np.isin(manifest.users[rows], rng.choice(several, count, replace=False))])
    held = held[np.argsort(manifest.users[held], kind="stable")]
    split = manifest.split.copy()
    split[held[0::2]] = SPLITS.index("validation")
    split[held[1::2]] = SPLITS.index("history")
    return replace(manifest, split=split)


def hold_out_as(manifest: Manifest, settings: TrainSettings) -> Manifest:
    """Hold out for validation what a run with these settings does; raises DataError where that cannot be.

    Evaluation repeats it, so that a user's history is the one that the model was trained with.
    """
    if not settings.validation_share:
        return manifest
    hold = hold_out if settings.model.history_path == "none" else hold_out_users
    return hold(manifest, settings.validation_share, settings.seed)


def read_manifest(root: Path, *, rows_at_once: int = 1_000_000) -> Manifest:
    """Read a data set; raises DataError, which says what is missing. Tags outside the vocabulary are counted.

    `rows_at_once`: number of rows whose strings are in memory at a time; only numbers are kept.
    """
    vocabulary = read_vocabulary(root / VOCABULARY_FILE)
    path = root / MANIFEST_FILE
    _check(path)
    user_names = pl.scan_parquet(path).select(pl.col("user").unique(maintain_order=True)).collect()["user"]
    parts = _read_in_pieces(path, vocabulary.tags, user_names, rows_at_once)
    images, users, tags, splits, given, unknown = zip(*parts, strict=True)
    manifest = Manifest(
        root=root,
        vocabulary=vocabulary,
        images=Texts(Ragged.from_parts(*zip(*images, strict=True))),
        users=np.concatenate(users),
        user_names=user_names.to_list(),
        tags=Ragged.from_parts(*zip(*tags, strict=True)),
        split=np.concatenate(splits),
        context=read_context(path, rows_at_once),
        labels=read_labels(path, rows_at_once),
        spans=read_spans(path, rows_at_once),
        given_tags=sum(given),
        unknown_tags=sum(unknown),
    )
    if not manifest.tags.lengths[manifest.rows("train")].any():
        raise DataError(f"{root}: no training picture has a tag of {VOCABULARY_FILE}; is it from another data set?")
    both = np.intersect1d(manifest.users[manifest.rows("train")], manifest.users[manifest.rows("history")])
    if len(both):
        raise DataError(
            f"{path}: user {manifest.user_names[both[0]]!r} has pictures of the splits train and history: expected "
            "history only for users without training pictures"
        )
    return manifest


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary with one tag per line, UTF-8 with or without a byte-order mark; raises DataError."""
    try:
        tags = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
        if empty := [number for number, tag in enumerate(tags, start=1) if not tag.strip()]:
            raise ValueError(f"line {empty[0]}: expected a tag, found an empty line")
        return Vocabulary(tuple(tags))
    except FileNotFoundError as error:
        raise DataError(f"no vocabulary at {path}: expected a text file with one tag per line") from error
    except ValueError as error:
        raise DataError(f"vocabulary {path}: {error}") from error


def _check(path: Path) -> None:
    """Raise DataError for a manifest that cannot be used for training."""
    try:
        schema = pl.read_parquet_schema(path)
    except FileNotFoundError as error:
        raise DataError(
            f"no manifest at {path}; `.venv/bin/python -m training.data.synthetic {path.parent}` makes a data set"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error
    wrong = [name for name, dtype in SCHEMA.items() if schema.get(name) != dtype]
    if wrong:
        raise DataError(f"{path}: column {wrong[0]!r} is {schema.get(wrong[0])}: expected {dict(SCHEMA)}")
    found = pl.scan_parquet(path).select(pl.col("image", "user").null_count()).collect()
    if nameless := [name for name in found.columns if found[name].item()]:
        raise DataError(f"{path}: {found[nameless[0]].item()} rows have no {nameless[0]}: expected one in each row")
    splits = set(pl.scan_parquet(path).select(pl.col("split").unique()).collect()["split"])
    if unknown := splits - set(SPLITS):
        raise DataError(f"{path}: split {sorted(map(str, unknown))}: expected {', '.join(SPLITS)}")
    if "train" not in splits:
        raise DataError(f"{path} has no training pictures")
    _check_optional(path, schema)


def _check_optional(path: Path, schema: Mapping[str, pl.DataType]) -> None:
    """Raise DataError for columns of OPTIONAL that cannot be used."""
    optional = {name: dtype for name, dtype in OPTIONAL.items() if name in schema}
    for pair in (("longitude", "latitude"), (*SHARDS,)):
        if set(pair) & set(optional):
            optional |= {name: OPTIONAL[name] for name in pair}
    wrong = [name for name, dtype in optional.items() if schema.get(name) != dtype]
    if wrong:
        raise DataError(f"{path}: column {wrong[0]!r} is {schema.get(wrong[0])}: expected {OPTIONAL[wrong[0]]}")
    if "latitude" in optional:
        outside = (pl.col("longitude").abs() > LONGITUDE) | (pl.col("latitude").abs() > LATITUDE)
        if count := pl.scan_parquet(path).select(outside.sum()).collect().item():
            raise DataError(
                f"{path}: {count} rows have coordinates beyond {LONGITUDE} or {LATITUDE} degrees: "
                "expected null where the place is unknown"
            )
    if "shard_offset" in optional:
        offset, size = map(pl.col, SHARDS)
        odd = (offset.is_null() != size.is_null()) | (offset < 0) | (size < 0)
        odd |= offset.is_not_null() & ~pl.col("image").str.contains("#", literal=True)
        if count := pl.scan_parquet(path).select(odd.sum()).collect().item():
            raise DataError(
                f"{path}: {count} rows have a place in a shard that cannot be: expected an image like "
                "shard.tar#member with shard_offset and shard_bytes, or null in both"
            )


def _read_in_pieces(
    path: Path, tags: Sequence[str], user_names: pl.Series, rows_at_once: int
) -> Iterator[tuple[Part, NDArray[np.int64], Part, NDArray[np.int8], int, int]]:
    """Yield images, users, tags and splits as numbers, and how many tags there are and are unknown, by pieces."""
    users, splits = pl.Enum(user_names), pl.Enum(SPLITS)
    for frame in pieces(path, [*SCHEMA], rows_at_once):
        known, given, unknown = indices(frame["tags"], tags)
        yield (
            utf8(frame["image"]),
            frame["user"].cast(users).to_physical().cast(pl.Int64).to_numpy(),
            known,
            frame["split"].cast(splits).to_physical().cast(pl.Int8).to_numpy(),
            given,
            unknown,
        )
