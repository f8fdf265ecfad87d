"""Decoding of images, with limits. All errors become InvalidImage."""

from __future__ import annotations

import inspect
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, GifImagePlugin, Image, JpegImagePlugin

from .errors import InvalidImage
from .formats import (
    BYTES_PER_PIXEL,
    MAX_TAGS,
    TiffFile,
    check,
    encoded_text,
    memory_bytes,
    partial,
    read_header,
    tag_count,
)

ImageLike: TypeAlias = str | Path | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[np.uint8]
"""A path, an image file's bytes, a binary file object, a PIL image, or uint8 [height, width, 3] or [height, width].

A file object is read from its start if it can seek, otherwise from its current position. A PIL image that is not loaded
yet is loaded at full scale."""

MAX_PIXELS = 64_000_000
"""Default limit on width x height: above the common formats of the largest phone cameras.

It is also the limit on memory: decoding may take 8 bytes for each of `max_pixels`, 512 MB, beside the file itself. A
WebP, which takes 16 bytes for each of its pixels, may have half as many."""

MAX_BYTES = 256 * 1024**2
"""Default limit on the size of a file: MAX_PIXELS in a BMP with 32 bits per pixel."""

REDUCED_SHORT_SIDE = 360
"""Least short side in pixels after decoding a JPEG at 1/2, 1/4 or 1/8 scale: 1.4 times the size that is needed.

The margin limits the blur and aliasing of reduced decoding and resizing together. Largest and mean difference from full
scale in grey levels, measured on JPEG files of 4 MB with much detail: 14 and 1.5 for 320 pixels, 12 and 1.1 for 360,
6 and 0.7 for 512. With 512, a 12-megapixel picture of 4000 x 3000, whose short side is 375 at 1/8, would need 1/4."""

MAX_EXIF_BYTES = 1024**2
"""Most EXIF data; in a JPEG it has at most 64 KiB. It is read while other threads wait, and ignored if it has very many
tags."""

LONGEST_NAME = 60
"""Characters of a path in an error."""

LONGEST_PATH = 255
"""Characters above which a path that looks like base64 is taken for it."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""Start of a URL. pathlib makes one slash of two."""

_NO_WORDS = re.compile(r"\W*\d*\W*|.*\bdecoder error\b.*|.*\bMAX_.*", re.DOTALL)
"""What Pillow says that helps nobody: numbers, and the names of its variables."""

_FILTERS_LOCK = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A decoded picture, not rotated yet.

    `size` is its width and height in pixels of `image`. After decoding at reduced scale these may be fractions: the
    last column and row then lie partly outside the picture. `orientation` is EXIF's, 1 to 8.
    """

    image: Image.Image
    size: tuple[float, float]
    orientation: int


def decode(image: ImageLike, *, max_pixels: int, max_bytes: int) -> Picture:
    """Decode an image; only JPEG files can be decoded at reduced scale. Raises InvalidImage."""
    with errors_of(image):
        if isinstance(image, np.ndarray):
            opened: Image.Image = _from_array(image)
        elif isinstance(image, Image.Image):
            opened = image
        else:
            data = _read(image, max_bytes)
            with _quiet():
                opened = read_header(data)
        reduced = admit(opened, max_pixels, reduce=opened is not image)
        if isinstance(opened, TiffFile):  # before decoding, after which its tags are gone
            orientation = opened.tag_v2.get(ExifTags.Base.Orientation, 1)
            opened.load()
            return Picture(opened, opened.size, orientation)
        if opened is not image and isinstance(opened, GifImagePlugin.GifImageFile) and partial(opened):
            opened = _on_nothing(opened)
        opened.load()
        return Picture(opened, reduced or opened.size, _orientation(opened))


def admit(image: Image.Image, max_pixels: int, *, reduce: bool) -> tuple[float, float] | None:
    """Raise ValueError for a picture, not decoded yet, that would come out wrong or take too much memory.

    With `reduce`, a JPEG will be decoded at reduced scale; its width and height are then returned.
    """
    check(image, max_pixels)
    pixels, reduced = image.width * image.height, None
    if reduce and isinstance(image, JpegImagePlugin.JpegImageFile):
        reduced = image.draft(None, (REDUCED_SHORT_SIDE, REDUCED_SHORT_SIDE))
    if (needed := memory_bytes(image, pixels)) > BYTES_PER_PIXEL * max_pixels:
        raise ValueError(
            f"its {pixels:,} pixels take up to {needed // 10**6:,} MB to decode, more than the limit of "
            f"{BYTES_PER_PIXEL * max_pixels // 10**6:,} MB: scale it down, or raise max_pixels"
        )
    return reduced[1][2:] if reduced else None


@contextmanager
def errors_of(image: ImageLike) -> Iterator[None]:
    """Convert every exception inside to InvalidImage, with the name of the image."""
    try:
        yield
    except InvalidImage:
        raise
    except Exception as error:  # Pillow raises nearly anything for damaged files, MemoryError included
        raise InvalidImage(f"cannot read an image from {_name(image)}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    words = (error.strerror if isinstance(error, OSError) else None) or str(error).rstrip(".") or type(error).__name__
    return "it is damaged" if _NO_WORDS.fullmatch(words) else words[:400]


def _name(image: object) -> str:
    name = str(image) if isinstance(image, str | Path) else type(image).__name__
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 3]}..." if name.startswith("data:") else f"...{name[3 - LONGEST_NAME :]}"


def _on_nothing(image: GifImagePlugin.GifImageFile) -> Image.Image:
    """The first frame where it belongs in the picture, which is transparent around it."""
    area = image.tile[0].extents
    whole = Image.new("RGBA", image.size, (255, 255, 255, 0))
    whole.paste(image.convert("RGBA").crop(area), area)
    return whole


def _read(image: object, max_bytes: int) -> bytes:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        text = os.fsencode(image)
        if (len(text) > LONGEST_PATH or text.startswith(b"data:")) and (encoded := encoded_text(text)):
            raise ValueError(f"it is {encoded}")
        if _URL.match(str(image)) and not os.path.exists(image):
            raise ValueError("it is a URL, and URLs are not fetched: download it, and pass a path or bytes")
        with open(image, "rb") as file:
            return _read_file(file, _name(image), max_bytes)
    if not hasattr(image, "read"):
        raise InvalidImage(
            f"{_name(image)} is not an image: expected a path, bytes, a binary file object, a PIL image or an array"
        )
    if hasattr(image, "seekable") and image.seekable():
        image.seek(0)  # type: ignore[attr-defined]
    return _read_file(image, _name(image), max_bytes)  # type: ignore[arg-type]


def _read_file(file: IO[bytes], name: str, max_bytes: int) -> bytes:
    """Read the whole file, in pieces: one read of a raw socket or pipe may return less than asked for."""
    pieces, size = [], 0
    while piece := file.read(max_bytes + 1 - size):
        if inspect.iscoroutine(piece):
            piece.close()
        if not isinstance(piece, bytes):
            raise InvalidImage(
                f"reading {name} returned {type(piece).__name__}, not bytes: open a file in mode 'rb'; for an "
                "asynchronous file, pass the result of `await file.read()`"
            )
        pieces.append(piece)
        size += len(piece)
        if size > max_bytes:
            raise InvalidImage(f"{name} has more than the limit of {max_bytes:,} bytes: raise max_bytes")
    return b"".join(pieces)  # one piece is not copied


def _orientation(image: Image.Image) -> int:
    exif = image.info.get("exif", b"")
    if len(exif) > MAX_EXIF_BYTES:
        raise ValueError(f"it has more than {MAX_EXIF_BYTES:,} bytes of EXIF data")
    if tag_count(exif.removeprefix(b"Exif\0\0")) > MAX_TAGS:
        return 1
    with _quiet():
        try:
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
        except Exception:  # noqa: BLE001 - with damaged EXIF data, the picture is taken as it is stored
            return 1


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    fits = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
    if not fits or 0 in array.shape:
        raise InvalidImage(
            f"array of {array.dtype} {list(array.shape)}: expected uint8 [height, width, 3] RGB or [height, width]"
        )
    return Image.fromarray(array)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Pillow's warnings about odd files: either they can be read, or they raise.

    Python's warning filters are global, so only one thread at a time may be in here. Decoding stays outside.
    """
    with _FILTERS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
