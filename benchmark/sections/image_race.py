"""Comparison of reduced and full decoding of a JPEG: `python -m benchmark.sections.image_race FILE`.

It runs in its own process because the cost of full decoding depends on the memory allocator: large blocks that were
returned to the system must be mapped again, page by page, for the next picture.
"""

import argparse
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from altreco_client import prepare
from altreco_client.images import crop
from numpy.typing import NDArray
from PIL import Image, ImageOps

from measure.turns import by_turns


def plain(file: bytes) -> NDArray[np.uint8]:
    """Decode the whole picture, turn it upright, convert it to RGB and resize it as the client does."""
    with Image.open(io.BytesIO(file)) as image:
        return crop(ImageOps.exif_transpose(image).convert("RGB"))


def reduced(file: bytes) -> NDArray[np.uint8]:
    """Decode at reduced scale, as the client does."""
    return prepare(file).tensor


def main() -> None:
    """Print the milliseconds of both per round, in the main thread and in a worker thread, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.sections.image_race", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    file = arguments.file.read_bytes()
    with ThreadPoolExecutor(1) as pool:
        times = {
            "main": _race(file, arguments.rounds, _milliseconds),
            "worker": _race(file, arguments.rounds, lambda *call: pool.submit(_milliseconds, *call).result()),
        }
    print(json.dumps(times))


def _race(
    file: bytes, rounds: int, measured: Callable[[Callable[[bytes], object], bytes], float]
) -> dict[str, list[float]]:
    contestants = {read.__name__: partial(measured, read, file) for read in (plain, reduced)}
    # The first round is not counted: it imports modules and fills caches.
    return {name: times[1:] for name, times in by_turns(contestants, rounds + 1).items()}


def _milliseconds(read: Callable[[bytes], object], file: bytes) -> float:
    started = time.perf_counter()
    read(file)
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
