"""Check which of the listed images can be read, from the header of each file, in threads."""

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
from altreco_client.decoding import FORMATS, MAX_PIXELS
from PIL import Image
from tqdm import tqdm

IMAGES_AT_ONCE = 4096
THREADS = 16
"""They wait for disks rather than compute."""


def unusable_images(
    rows: duckdb.DuckDBPyConnection, folder: Path, progress: tqdm
) -> Iterator[tuple[list[int], list[str]]]:
    """Check the images of a query for (row, image path); yield unusable rows and their problems (names in Report)."""
    with ThreadPoolExecutor(THREADS) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's warnings about odd files; images that are too large are refused below
        while some := rows.fetchmany(IMAGES_AT_ONCE):
            problems = pool.map(lambda row: _problem(folder / row[1]), some)
            found = [(row, problem) for (row, _), problem in zip(some, problems, strict=True) if problem]
            progress.update(len(some))
            yield [row for row, _ in found], [problem for _, problem in found]


def _problem(path: Path) -> str | None:
    try:
        with Image.open(path, formats=[*FORMATS]) as image:
            return None if image.width * image.height <= MAX_PIXELS else "no_image"
    except FileNotFoundError:
        return "missing_image"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "no_image"
