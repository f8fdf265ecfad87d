"""Columns of a manifest as arrays: text, lists of words as indices, and what few manifests have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.data.ragged import Ragged

EPOCH = datetime(2000, 1, 1)
"""Start of `Context.minute`."""
NO_TIME = np.iinfo(np.int32).min
"""`Context.minute` of a picture whose time is unknown."""

Part = tuple[NDArray[np.integer], NDArray[np.integer]]
"""Lengths and values of a part of a Ragged."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """When and where the pictures were taken, as far as it is known.

    `minute`, int32 [rows]: minutes from EPOCH by the camera's local time, or NO_TIME. `place`, float32 [rows, 2]:
    longitude and latitude in degrees (WGS84), or both NaN.
    """

    minute: NDArray[np.int32]
    place: NDArray[np.float32]

    @property
    def has_time(self) -> NDArray[np.bool_]:
        """Whether a picture's time is known, bool [rows]."""
        return self.minute != NO_TIME

    @property
    def has_place(self) -> NDArray[np.bool_]:
        """Whether a picture's place is known, bool [rows]."""
        return ~np.isnan(self.place[:, 0])


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Class labels beside the tags. `indices[row]` index `names`: int32, sorted, unique."""

    names: tuple[str, ...]
    indices: Ragged


def read_context(path: Path, rows_at_once: int) -> Context | None:
    """Read when and where the pictures were taken; None without any such column."""
    columns = [name for name in ("taken", "longitude", "latitude") if name in pl.read_parquet_schema(path)]
    if not columns:
        return None
    minutes, places = [], []
    first = EPOCH - datetime(1970, 1, 1)
    for frame in pieces(path, columns, rows_at_once):
        minute, place = pl.Series([NO_TIME] * len(frame), dtype=pl.Int64), np.full((len(frame), 2), np.nan, np.float32)
        if "taken" in columns:
            us = frame["taken"].dt.epoch("us")
            minute = (us // 60_000_000 - first.days * 24 * 60).fill_null(NO_TIME)
        if "latitude" in columns:
            place[:] = frame.select("longitude", "latitude").fill_null(float("nan")).to_numpy()
            place[np.isnan(place).any(1)] = np.nan
        minutes.append(minute.to_numpy().astype(np.int32))
        places.append(place)
    return Context(minute=np.concatenate(minutes), place=np.concatenate(places))


def read_labels(path: Path, rows_at_once: int) -> Labels | None:
    """Read the labels; None without such a column."""
    if "labels" not in pl.read_parquet_schema(path):
        return None
    label = pl.scan_parquet(path).select(pl.col("labels").explode()).unique().drop_nulls().collect()["labels"]
    names = tuple(sorted(set(label) - {""}))
    parts = [indices(frame["labels"], names)[0] for frame in pieces(path, ["labels"], rows_at_once)]
    return Labels(names=names, indices=Ragged.from_parts(*zip(*parts, strict=True)))


def read_spans(path: Path, rows_at_once: int) -> NDArray[np.int64] | None:
    """Read where in its shard each picture is; None without such columns."""
    columns = ["shard_offset", "shard_bytes"]
    if columns[0] not in pl.read_parquet_schema(path):
        return None
    return np.concatenate([frame.fill_null(-1).to_numpy() for frame in pieces(path, columns, rows_at_once)])


def pieces(path: Path, columns: Sequence[str], rows_at_once: int) -> Iterator[pl.DataFrame]:
    """Yield the columns of a Parquet file, some rows at a time."""
    table = pl.scan_parquet(path).select(columns)
    for start in range(0, table.select(pl.len()).collect().item(), rows_at_once):
        yield table.slice(start, rows_at_once).collect()


def utf8(texts: pl.Series) -> Part:
    """Encode the texts: lengths, and all bytes."""
    return texts.str.len_bytes().to_numpy(), np.frombuffer(texts.str.join("").item().encode(), dtype=np.uint8)


def indices(words: pl.Series, names: Sequence[str]) -> tuple[Part, int, int]:
    """Look up lists of words: lengths, and sorted unique indices into `names` per row; words in all, and unknown ones.

    A null or empty word is none.
    """
    given = pl.DataFrame({"word": words}).with_row_index("row").explode("word").filter(pl.col("word") != "")
    known = given.with_columns(pl.col("word").cast(pl.Enum(names), strict=False).to_physical()).drop_nulls()
    size = max(1, len(names))
    keys = np.unique(known["row"].to_numpy().astype(np.int64) * size + known["word"].to_numpy())
    indices = (keys % size).astype(np.int32)
    return (np.bincount(keys // size, minlength=len(words)), indices), len(given), len(given) - len(known)
