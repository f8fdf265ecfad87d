"""From whatever a caller holds to a decoded picture, within limits; what goes wrong on the way becomes InvalidImage."""

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

ImageLike: TypeAlias = "str | Path | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[np.uint8]"
"""A path, an image file's bytes, a binary file object, a PIL image, or uint8 [height, width, 3] or [height, width].

A file object is read from its start where it can seek, else from where it stands; a PIL image is decoded if it was not
yet, at full scale, and otherwise left as it is."""

MAX_PIXELS = 64_000_000
"""Default limit on width x height: over the largest phone cameras' common formats, 256 MB decoded."""

MAX_BYTES = 256 * 1024**2
"""Default limit on what a path or a file object may bring: MAX_PIXELS of a BMP with 32 bits each."""

FORMATS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
"""What is read, by Pillow's names: of its forty-odd formats those that people upload. The others would only widen what
an attacker can reach; EPS, for one, runs Ghostscript.

These classes rather than Image.open, which has a limit on pixels of its own, one for the whole process. GIF and WebP
look at it too: over 2 x PIL.Image.MAX_IMAGE_PIXELS, 179 million, they are refused whatever max_pixels says."""

REDUCED_SHORT_SIDE = 360
"""A JPEG is decoded at 1/2, 1/4 or 1/8 as long as its short side keeps so many pixels, 1.4 times what is needed.

The margin is for what reduced decoding and resizing blur or alias together. Largest and mean difference from the full
scale, grey levels, measured on detail that JPEG files of 4 MB hold: 14 and 1.5 with 320 pixels left, 12 and 1.1 with
360, 6 and 0.7 with 512; a 12-megapixel picture of 4000 x 3000, which keeps 375 at 1/8, would be decoded at 1/4."""

MAX_SCANS = 64
"""Of a JPEG: progressive ones have about ten. Each costs a pass over the whole picture, however few bytes it has: a
file of 260 KB with 106 scans of 64 megapixels took 6 s."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""Of JPEG (ITU T.81, table B.1), those that a length follows, and the end, FFD9; scan data have none."""
_START_OF_SCAN, _END = b"\xff\xda", b"\xff\xd9"

_FILTERS_LOCK = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A picture as it is stored: `size` is width and height in pixels of `image`, `orientation` EXIF's, 1 to 8.

    After decoding at reduced scale the size need not be whole: the last column and row then lie partly beyond it.
    """

    image: Image.Image
    size: tuple[float, float]
    orientation: int


def decode(image: ImageLike, *, max_pixels: int, max_bytes: int) -> Picture:
    """The picture, a JPEG file at reduced scale; other formats, Pillow can only decode whole. Raises InvalidImage."""
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
    """Whatever is raised inside says what could not be read: InvalidImage."""
    try:
        yield
    except InvalidImage:
        raise
    except Exception as error:  # on damaged files Pillow raises nearly anything, MemoryError included
        reason = str(error) or type(error).__name__
        raise InvalidImage(
            f"cannot read an image from {_name(image)}: {reason}. Expected a whole {', '.join(FORMATS)} file"
        ) from error


def _name(image: object) -> str:
    return str(image) if isinstance(image, str | Path) else type(image).__name__


def _read(image: object, max_bytes: int) -> bytes:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        with open(image, "rb") as file:
            return _read_file(file, _name(image), max_bytes)
    if not hasattr(image, "read"):
        raise InvalidImage(
            f"{_name(image)} is no image: expected a path, bytes, a binary file object, a PIL image or a numpy array"
        )
    if hasattr(image, "seekable") and image.seekable():
        image.seek(0)  # type: ignore[attr-defined]
    return _read_file(image, _name(image), max_bytes)  # type: ignore[arg-type]


def _read_file(file: IO[bytes], name: str, max_bytes: int) -> bytes:
    """All of it; in pieces, since one read of a raw socket or pipe may bring less than it was asked for."""
    read = bytearray()
    while piece := file.read(max_bytes + 1 - len(read)):
        if inspect.iscoroutine(piece):
            piece.close()
        if not isinstance(piece, bytes):
            raise InvalidImage(
                f"reading {name} gave {type(piece).__name__}, not bytes: open a file in mode 'rb', and of an "
                "asynchronous file give what `await file.read()` returns"
            )
        read += piece
        if len(read) > max_bytes:
            raise InvalidImage(f"{name} brings more than the limit of {max_bytes:,} bytes: raise max_bytes")
    return bytes(read)


def _open(data: bytes, name: str) -> ImageFile.ImageFile:
    """The header, read."""
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
        f"cannot read an image from {name}: its {len(data):,} bytes are not of {', '.join(FORMATS)}, or are damaged; "
        "convert it to one of these"
    )


def _check_scans(data: bytes, position: int, name: str) -> None:
    """Raise InvalidImage for too many, counted from the first one's data; what follows the picture does not count."""
    if data.count(_START_OF_SCAN, position) < MAX_SCANS:  # nearly always, and quick
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
        except Exception:  # noqa: BLE001 - whatever damaged EXIF data raise, the picture is there, and as it is stored
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
    """Keep in what Pillow warns of in odd files: they can be read, or they raise.

    One thread at a time, since Python's filters belong to them all; so not around the decoding, which takes long,
    but for TIFF, which reads its tags meanwhile.
    """
    with _FILTERS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
