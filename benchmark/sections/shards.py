"""Pictures in files of their own against pictures in tar shards."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from altreco_client.images import load_crop
from tqdm import tqdm

from measure.markdown import cell, ratios, table
from training.data.manifest import MANIFEST_FILE, Manifest, read_manifest
from training.data.shards import pack, picture_of

WAYS = {"read": "read", "decoded": "read and decoded"}
CACHED = {"cold": "from the disk", "warm": "from the page cache"}


def measure_shards(rounds: int, data: Path, folder: Path) -> dict[str, Any]:
    """Count the pictures a second of one process that reads them in random order. Raises DataError."""
    shards = pack(data, folder / "shards", quiet=True)
    contestants = {"files": read_manifest(data), "shards": read_manifest(shards)}
    images = {str(manifest.images[row]) for manifest in contestants.values() for row in range(len(manifest.images))}
    files = {*shards.iterdir(), *(data / image for image in images if "#" not in image)} - {shards / MANIFEST_FILE}
    per_s: dict[str, dict[str, list[float]]] = {
        name: {f"{way}, {cached}": [] for way in WAYS for cached in CACHED} for name in contestants
    }
    for round_ in tqdm(range(rounds), "shards", unit="round"):
        order = np.random.default_rng(round_).permutation(len(contestants["files"].images)).tolist()
        for name, manifest in sorted(contestants.items(), reverse=bool(round_ % 2)):
            for way, read in (("read", _read), ("decoded", _decode)):
                _forget(files)
                for cached in CACHED:  # the cold turn fills the cache for the warm one
                    per_s[name][f"{way}, {cached}"].append(_rate(manifest, order, read))
    size = sum(path.stat().st_size for path in shards.glob("*.tar"))
    return {"per_s": per_s, "pictures": len(order), "rounds": rounds, "shard_bytes": size}


def _rate(manifest: Manifest, order: list[int], read: Callable[[Manifest, int], object]) -> float:
    start = time.perf_counter()
    for row in order:
        read(manifest, row)
    return len(order) / (time.perf_counter() - start)


def _read(manifest: Manifest, row: int) -> bytes:
    file = picture_of(manifest, row)
    return file if isinstance(file, bytes) else file.read_bytes()


def _decode(manifest: Manifest, row: int) -> object:
    return load_crop(picture_of(manifest, row))


def _forget(files: set[Path]) -> None:
    """Drop the files from the page cache, as far as the system follows the advice."""
    for path in files:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def render_shards(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    files, shards = (section["per_s"][name] for name in ("files", "shards"))
    lines = [
        [f"{title}, {CACHED[cached]}", *map(cell, (of_files, of_shards, ratios(of_files, of_shards)))]
        for way, title in WAYS.items()
        for cached in CACHED
        for of_files, of_shards in [(files[f"{way}, {cached}"], shards[f"{way}, {cached}"])]
    ]
    return [
        f"Pictures a second of one process that reads {section['pictures']:,} pictures in random order from a local "
        f"disk, over {section['rounds']} rounds; {section['shard_bytes'] / 1e6:.0f} MB in all. A network disk, where "
        "opening a file takes a request, was not measured.",
        "",
        *table(["", "files", "shards", "shards / files"], lines),
        "",
    ]
