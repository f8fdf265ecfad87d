"""Pictures in tar shards, for disks on which millions of small files are slow.

    python -m training.data.shards DATA OUT [--shard-mb 1024]

copies a data set. In the manifest, `image` becomes `shard-00000.tar#member`, and the columns `shard_offset` and
`shard_bytes` say where in the shard the picture's bytes are. So each picture is one read, in any order, and training is
the same as with files.
"""

import argparse
import io
import math
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import polars as pl
from altreco_client import InvalidImage
from altreco_client.cli.pipe import quiet_pipe

from measure.progress import progress_bar
from training.data.folder import renamed_when_complete
from training.data.manifest import MANIFEST_FILE, VOCABULARY_FILE, Manifest, read_manifest
from training.errors import DataError

SHARD_MB = 1024


def picture_of(manifest: Manifest, row: int) -> Path | bytes:
    """Return the path of a picture's file, or its bytes in a shard.

    Raises InvalidImage for a shard without them, DataError for a path that leaves the data set.
    """
    image = manifest.images[row]
    offset, size = (-1, 0) if manifest.spans is None else manifest.spans[row].tolist()
    if offset < 0:
        return _inside(manifest.root, image)
    path = _inside(manifest.root, image.partition("#")[0])
    try:
        with path.open("rb") as shard:
            shard.seek(offset)
            content = shard.read(size)
    except OSError as error:
        raise InvalidImage(f"cannot read {image}: {error}") from error
    if len(content) < size:
        raise InvalidImage(f"{path} ends before {image}: expected a complete shard")
    return content


def _inside(root: Path, name: str) -> Path:
    """Return the path of a file of the data set; raises DataError for one that leaves it."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"the manifest names {name!r}: expected a path inside {root}")
    return root / path


def pack(data: Path, out: Path, *, shard_mb: float = SHARD_MB, quiet: bool = False) -> Path:
    """Copy the data set to `out` with its pictures in shards of at most this size, and return `out`.

    A picture that several rows name is stored once. Raises DataError if a picture cannot be read, the data set has
    shards already, or `out` exists.
    """
    if not shard_mb > 0:
        raise DataError(f"shards of {shard_mb} MB: expected more than 0")
    if read_manifest(data).spans is not None:
        raise DataError(f"{data} has its pictures in shards already")
    table = pl.scan_parquet(data / MANIFEST_FILE)
    images = table.select(pl.col("image").unique(maintain_order=True)).collect()["image"]
    with renamed_when_complete(out, VOCABULARY_FILE) as folder:
        shutil.copyfile(data / VOCABULARY_FILE, folder / VOCABULARY_FILE)
        written = _write_shards(images, data, folder, int(shard_mb * 1e6))
        packed = list(progress_bar(written, "pack", total=len(images), unit="picture", disable=quiet))
        names, offsets, sizes = zip(*packed, strict=True)
        places = pl.LazyFrame({"image": images, "in_shard": names, "shard_offset": offsets, "shard_bytes": sizes})
        joined = table.join(places, on="image", how="left", maintain_order="left")
        joined.with_columns(image="in_shard").drop("in_shard").sink_parquet(folder / MANIFEST_FILE)
    return out


def _write_shards(images: pl.Series, data: Path, folder: Path, shard_bytes: int) -> Iterator[tuple[str, int, int]]:
    """Yield each picture's name in its shard, where its bytes begin, and their number."""
    count, end = 0, math.inf
    with ExitStack() as opened:
        for image in images:
            content = _content(_inside(data, image))
            if end + len(content) > shard_bytes:
                opened.close()
                shard = f"shard-{count:05d}.tar"
                file = opened.enter_context((folder / shard).open("wb"))
                tar = opened.enter_context(tarfile.open(fileobj=file, mode="w"))
                count += 1
            member = tarfile.TarInfo(image)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            end = file.tell()
            blocks = -(-len(content) // tarfile.BLOCKSIZE)
            yield f"{shard}#{member.name}", end - blocks * tarfile.BLOCKSIZE, len(content)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error


@quiet_pipe()
def main(arguments: Sequence[str] | None = None) -> int:
    """Pack as the command line says; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.shards", description="Copy a data set, with its pictures in tar shards."
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="data set folder with manifest.parquet")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to create")
    parser.add_argument("--shard-mb", type=float, default=SHARD_MB, help="largest size of a shard (%(default)s)")
    given = parser.parse_args(arguments)
    try:
        pack(given.data, given.out, shard_mb=given.shard_mb)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"data set in {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
