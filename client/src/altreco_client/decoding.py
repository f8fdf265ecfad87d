"""Decoding of images, with limits. All errors become InvalidImage."""

from __future__ import annotations

import inspect
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from .errors import InvalidImage

ImageLike: TypeAlias = str | Path | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[np.uint8]
"""A path, an image file's bytes, a binary file object, a PIL image, or uint8 [height, width, 3] or [height, width].

A file object is read from its start if it can seek, otherwise from its current position. A PIL image that is not loaded
yet is loaded at full scale."""

MAX_PIXELS = 64_000_000
"""Default limit on width x height: above the common formats of the largest phone cameras; 256 MB when decoded."""

MAX_BYTES = 256 * 1024**2
"""Default limit on the size of a file: MAX_PIXELS in a BMP with 32 bits per pixel."""

FORMATS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
"""Accepted formats, by Pillow's names: those that people upload. Pillow's other formats would only give an attacker
more code to reach; EPS, for example, runs Ghostscript.

Image.open is not used, because it has a pixel limit for the whole process. Pillow's GIF and WebP readers apply that
limit too: above 2 x PIL.Image.MAX_IMAGE_PIXELS, 179 million, they are refused whatever max_pixels is."""

REDUCED_SHORT_SIDE = 360
"""Least short side in pixels after decoding a JPEG at 1/2, 1/4 or 1/8 scale: 1.4 times the size that is needed.

The margin limits the blur and aliasing of reduced decoding and resizing together. Largest and mean difference from full
scale in grey levels, measured on JPEG files of 4 MB with much detail: 14 and 1.5 for 320 pixels, 12 and 1.1 for 360,
6 and 0.7 for 512. With 512, a 12-megapixel picture of 4000 x 3000, whose short side is 375 at 1/8, would need 1/4."""

MAX_SCANS = 64
"""Most scans in a JPEG; a progressive one has about ten. Each scan takes a pass over the whole picture, however few
bytes it has: a file of 260 KB with 106 scans of 64 megapixels took 6 s."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""Start of a URL. pathlib makes one slash of two."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""JPEG markers that a length follows, and the end marker FFD9 (ITU T.81, table B.1). Scan data has none of these."""
_START_OF_SCAN, _END = b"\xff\xda", b"\xff\xd9"

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
            opened = _open(_read(image, max_bytes), _name(image))
        if opened.width * opened.height > max_pixels:
            raise InvalidImage(
                f"{_name(image)} has {opened.width} x {opened.height} pixels, more than the limit of {max_pixels:,}; "
                "scale it down, or raise max_pixels"
            )
        reduced = None
        if opened is not image and isinstance(opened, JpegImagePlugin.JpegImageFile):
            reduced = opened.draft(None, (REDUCED_SHORT_SIDE, REDUCED_SHORT_SIDE))
        with _quiet() if isinstance(opened, TiffImagePlugin.TiffImageFile) else nullcontext():
            opened.load()
        return Picture(opened, reduced[1][2:] if reduced else opened.size, _orientation(opened))


@contextmanager
def errors_of(image: ImageLike) -> Iterator[None]:
    """Convert every exception inside to InvalidImage, with the name of the image."""
    try:
        yield
    except InvalidImage:
        raise
    except Exception as error:  # Pillow raises nearly anything for damaged files, MemoryError included
        reason = str(error) or type(error).__name__
        raise InvalidImage(
            f"cannot read an image from {_name(image)}: {reason}. Expected a complete {', '.join(FORMATS)} file"
        ) from error


def _name(image: object) -> str:
    return str(image) if isinstance(image, str | Path) else type(image).__name__


def _read(image: object, max_bytes: int) -> bytes:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        if _URL.match(_name(image)) and not os.path.exists(image):
            raise InvalidImage(f"{image} is a URL, and URLs are not fetched: download it, and pass a path or bytes")
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
    read = bytearray()
    while piece := file.read(max_bytes + 1 - len(read)):
        if inspect.iscoroutine(piece):
            piece.close()
        if not isinstance(piece, bytes):
            raise InvalidImage(
                f"reading {name} returned {type(piece).__name__}, not bytes: open a file in mode 'rb'; for an "
                "asynchronous file, pass the result of `await file.read()`"
            )
        read += piece
        if len(read) > max_bytes:
            raise InvalidImage(f"{name} has more than the limit of {max_bytes:,} bytes: raise max_bytes")
    return bytes(read)


def _open(data: bytes, name: str) -> ImageFile.ImageFile:
    """Read the header."""
    for name_of_format, reader in FORMATS.items():
        _, accepts = Image.OPEN[name_of_format]
        if accepts is None or accepts(data[:16]):
            file = io.BytesIO(data)
            with _quiet():
                opened = reader(file)
            if reader is JpegImagePlugin.JpegImageFile:
                _check_scans(data, file.tell(), name)
            return opened
    raise InvalidImage(
        f"cannot read an image from {name}: its {len(data):,} bytes are not {', '.join(FORMATS)}, or are damaged; "
        "convert it to one of these"
    )


def _check_scans(data: bytes, position: int, name: str) -> None:
    """Raise InvalidImage for a JPEG with too many scans. `position` is at the data of the first one."""
    if data.count(_START_OF_SCAN, position) < MAX_SCANS:  # a quick check that nearly all files pass
        return
    scans = 1
    while (marker := _MARKER.search(data, position)) and marker[0] != _END:
        scans += marker[0] == _START_OF_SCAN
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    if scans > MAX_SCANS:
        raise InvalidImage(f"{name} is a JPEG of {scans} scans, more than {MAX_SCANS}: save it again as baseline")


def _orientation(image: Image.Image) -> int:
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

    Python's warning filters are global, so only one thread at a time may be in here. Decoding takes long and stays
    outside, except for TIFF, whose tags are read while it is decoded.
    """
    with _FILTERS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
