"""Preparation of images as the uint8 tensor that the server expects. Training uses it too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .contract import IMAGE, IMAGE_SIZE, RESIZE_SHORT_SIDE
from .decoding import MAX_BYTES, MAX_PIXELS, ImageLike, decode, errors_of
from .errors import InvalidImage

__all__ = ["MAX_BYTES", "MAX_PIXELS", "ImageLike", "PreparedImage", "crop", "load_crop", "load_rgb", "prepare"]

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that undoes each EXIF orientation (EXIF 2.32, tag 274)."""


@dataclass(frozen=True)
class PreparedImage:
    """The result of `prepare`: an RGB `tensor`, uint8 [224, 224, 3], which can be sent for many users."""

    tensor: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Raise InvalidImage for any other tensor."""
        tensor: object = self.tensor
        if not isinstance(tensor, np.ndarray) or tensor.dtype != np.uint8 or tensor.shape != IMAGE.dims:
            found = f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, np.ndarray) else type(tensor).__name__
            raise InvalidImage(
                f"tensor is {found}: expected uint8 {list(IMAGE.dims)}, which prepare() makes from an image"
            )


def prepare(
    image: ImageLike | PreparedImage, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> PreparedImage:
    """Decode an image, turn it upright and crop it for the server: short side 256, centre crop 224.

    A JPEG file is decoded at reduced scale. On textures of many sizes, the tensor differed from that of full scale by
    at most 16 grey levels, and by at most 2 on average; on coloured noise in 4:2:2, by up to 73, and 9.3 on average.
    Transparent pixels become white, an animation is its first frame, and 16-bit pixels keep their upper 8 bits. CMYK is
    scaled before it is converted. ICC colour profiles are ignored, in training too: colours count as sRGB.

    Refused, because the pixels would come out wrong: pixels of 32 bits or floats, which have no fixed range; TIFF with
    other compressions than LZW, Deflate, JPEG and PackBits, or with rare layouts of samples; 16-bit BMP with
    transparency. A JPEG that is cut short is refused, even if only its end marker is missing; one whose middle is
    damaged, or that was cut and then ended, is not noticed.

    Raises InvalidImage if the image is not one, is truncated, has more than `max_pixels` pixels in its header, takes
    more than 8 bytes for each of `max_pixels` to decode, or is a file of more than `max_bytes` bytes.
    """
    if isinstance(image, PreparedImage):
        return image
    return PreparedImage(load_crop(image, max_pixels=max_pixels, max_bytes=max_bytes))


def load_crop(
    image: ImageLike, x: float = 0.5, y: float = 0.5, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> NDArray[np.uint8]:
    """Prepare an image with the crop at (x, y), as in `crop`; uint8 [224, 224, 3]. Raises InvalidImage.

    Colours are converted and the picture is rotated after the crop, when only 224 x 224 pixels are left.
    """
    picture = decode(image, max_pixels=max_pixels, max_bytes=max_bytes)
    with errors_of(image):
        x, y = _as_stored(x, y, picture.orientation)
        tile = _window(_averageable(picture.image), picture.size, x, y)
        return np.asarray(_rgb(_turned(tile, picture.orientation)))


def load_rgb(image: ImageLike, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Image.Image:
    """Decode to an upright RGB PIL image for people to look at. Raises InvalidImage.

    A JPEG file is decoded at reduced scale, with a short side of 360 pixels or more if the original has as many.
    Transparent pixels become white.
    """
    picture = decode(image, max_pixels=max_pixels, max_bytes=max_bytes)
    with errors_of(image):
        rgb = _turned(_rgb(_averageable(picture.image)), picture.orientation)
        return rgb.copy() if rgb is image else rgb  # the result may be changed, the caller's image may not


def crop(image: Image.Image, x: float = 0.5, y: float = 0.5) -> NDArray[np.uint8]:
    """Scale the short side to 256 and crop 224 x 224, in one step; uint8 [224, 224, 3].

    `x` and `y` (0 to 1) place the crop. Evaluation and serving use the centre, 0.5; training draws them at random
    (paper, section IV-B). One step, because a very long and thin picture scaled as a whole would take gigabytes.
    """
    return np.asarray(_window(image, image.size, x, y))


def _window(image: Image.Image, size: tuple[float, float], x: float, y: float) -> Image.Image:
    side = min(size) * IMAGE_SIZE / RESIZE_SHORT_SIDE
    left, top = (size[0] - side) * x, (size[1] - side) * y
    box = (left, top, left + side, top + side)
    return image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR, box=box)


def _as_stored(x: float, y: float, orientation: int) -> tuple[float, float]:
    """Convert the crop's place in the upright picture to its place in the stored one."""
    if orientation in (5, 6, 7, 8):
        x, y = y, x
    return (1 - x if orientation in (2, 3, 7, 8) else x), (1 - y if orientation in (3, 4, 6, 7) else y)


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _averageable(image: Image.Image) -> Image.Image:
    """Convert to a mode whose pixels can be averaged and that `_rgb` can convert."""
    if image.mode.startswith("I;16"):
        return _upper_bytes(image)
    if image.mode == "La":
        return image.convert("LA")
    if "transparency" not in image.info and image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _upper_bytes(image: Image.Image) -> Image.Image:
    """Convert 16 bits to 8, which convert() would clip at 255."""
    pixels = np.asarray(image)
    grey = Image.fromarray(pixels.astype("<u2", copy=False).view(np.uint8)[:, 1::2])
    if "transparency" not in image.info:
        return grey
    return Image.merge(
        "LA", (grey, Image.fromarray(np.where(pixels == image.info["transparency"], 0, 255).astype("u1")))
    )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "RGBA"):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")
