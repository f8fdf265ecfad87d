"""Check which of the listed images can be read: from the header of each file, in threads, or decoded, in processes."""

import multiprocessing
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import duckdb
from altreco_client.decoding import MAX_PIXELS, admit
from altreco_client.formats import FORMATS
from altreco_client.images import load_crop
from PIL import Image
from tqdm import tqdm

from training.data.worker import end_with_parent

IMAGES_AT_ONCE = 4096
THREADS = 16
"""They wait for disks rather than compute."""


def unusable_images(
    rows: duckdb.DuckDBPyConnection, folder: Path, progress: tqdm, *, decode: bool
) -> Iterator[tuple[list[int], list[str]]]:
    """Check the images of a query for (row, image path); yield unusable rows and their problems (names in Report).

    `decode`: read all pixels, as training does, so that a truncated file is found too.
    """
    with _pool(decode) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's warnings about odd files; images that are too large are refused below
        while some := rows.fetchmany(IMAGES_AT_ONCE):
            names = [row[1] for row in some]
            problems = pool.map(partial(unusable, folder, decode=decode), names, chunksize=64)
            found = [(row, problem) for (row, _), problem in zip(some, problems, strict=True) if problem]
            progress.update(len(some))
            yield [row for row, _ in found], [problem for _, problem in found]


def _pool(decode: bool) -> Executor:
    if decode:
        return ProcessPoolExecutor(mp_context=multiprocessing.get_context("forkserver"), initializer=end_with_parent)
    return ThreadPoolExecutor(THREADS)


def unusable(folder: Path, name: str, *, decode: bool = False) -> str | None:
    """Return what is wrong with a file below the folder (a name in Report); None for one that can be used."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return "missing_image"  # no data set names pictures outside its folder
    try:
        if decode and path.exists():
            load_crop(path)
            return None
        with Image.open(path, formats=[*FORMATS]) as image:
            admit(image, MAX_PIXELS, reduce=True)  # by the client's rules, which are training's too
            return None
    except FileNotFoundError:
        return "missing_image"
    except Exception:  # noqa: BLE001 - Pillow raises nearly anything for damaged files
        return "no_image"
