"""From whatever a caller holds to the uint8 tensor that the server takes. Training reads its pictures here too."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .contract import IMAGE_SIZE, RESIZE_SHORT_SIDE
from .errors import InvalidImage

MAX_PIXELS = 64_000_000
"""Default limit on width x height: over the largest phone cameras' common formats, 192 MB decoded."""


@dataclass(frozen=True)
class PreparedImage:
    """What `prepare` returns: `tensor`, uint8 [224, 224, 3], RGB, ready for the wire and for many users."""

    tensor: NDArray[np.uint8]


ImageLike: TypeAlias = "str | Path | bytes | IO[bytes] | Image.Image | NDArray[np.uint8]"
"""A path, an image file's bytes, a binary file object, a PIL image, or uint8 [height, width, 3] or [height, width]."""


def prepare(image: ImageLike | PreparedImage, *, max_pixels: int = MAX_PIXELS) -> PreparedImage:
    """Read, turn upright and cut the image to the serving contract: short side 256, centre crop 224.

    Raises InvalidImage for what is no image, is truncated, or has more than `max_pixels` pixels.
    """
    if isinstance(image, PreparedImage):
        return image
    return PreparedImage(crop(load_rgb(image, max_pixels=max_pixels)))


def load_rgb(image: ImageLike, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode to an upright RGB PIL image; transparency is laid on white. Raises InvalidImage."""
    name = str(image) if isinstance(image, str | Path) else type(image).__name__
    try:
        return _to_rgb(_open(image, name, max_pixels))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InvalidImage):
            raise
        reason = str(error) if str(error) else type(error).__name__
        raise InvalidImage(
            f"cannot read an image from {name}: {reason}. Expected JPEG, PNG, WebP or the like"
        ) from error


def crop(image: Image.Image, x: float = 0.5, y: float = 0.5) -> NDArray[np.uint8]:
    """Scale the short side to 256 and cut out 224 x 224, in one step; uint8 [224, 224, 3].

    `x` and `y` (0 to 1) place the window; 0.5 is the centre crop of evaluation and serving, training draws them
    at random (paper, section IV-B). One step, because a very long and thin picture scaled as a whole would
    take gigabytes.
    """
    side = min(image.size) * IMAGE_SIZE / RESIZE_SHORT_SIDE
    left, top = (image.width - side) * x, (image.height - side) * y
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR, box=box))


def _open(image: ImageLike, name: str, max_pixels: int) -> Image.Image:
    if isinstance(image, np.ndarray):
        opened = _from_array(image)
    elif isinstance(image, Image.Image):
        opened = image
    else:
        opened = Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
    if opened.width * opened.height > max_pixels:
        raise InvalidImage(
            f"{name} has {opened.width} x {opened.height} pixels, more than the limit of {max_pixels:,}; "
            "scale it down, or raise max_pixels"
        )
    return opened


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    fits = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
    if not fits or 0 in array.shape:
        raise InvalidImage(
            f"array of {array.dtype} {list(array.shape)}: expected uint8 [height, width, 3] RGB or [height, width]"
        )
    return Image.fromarray(array)


def _to_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a channel: convert() would clip at 255
        image = image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")
