"""Stored pictures, manifests of them, and what a backfill made of them."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).parents[2]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], *, group: int, **schema: pa.DataType) -> Path:
    """A Parquet file with row groups of so many rows."""
    table = pa.Table.from_pylist(list(rows), pa.schema(schema) if schema else None)
    pq.write_table(table, path, row_group_size=group)
    return path


def write_picture(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels.repeat(20, 0).repeat(20, 1)).save(path)
    return path


def write_manifest(folder: Path, rows: int, *, group: int = 8) -> Path:
    """So many rows of one picture."""
    folder.mkdir(parents=True, exist_ok=True)
    write_picture(folder / "photo.jpg")
    return write_rows(
        folder / "pictures.parquet", [{"id": f"{i}", "image": "photo.jpg"} for i in range(rows)], group=group
    )


def results(out: Path) -> list[dict[str, Any]]:
    """The rows of all parts, in their order."""
    return [row for part in parts(out) for row in pq.read_table(part).to_pylist()]


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def written_at(out: Path) -> dict[str, int]:
    """When each part was written, ns."""
    return {part.name: part.stat().st_mtime_ns for part in parts(out)}


def started(*arguments: object) -> subprocess.Popen[str]:
    """`python -m backfill` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "backfill", *map(str, arguments)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
