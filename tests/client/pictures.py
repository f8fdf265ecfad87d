"""Pictures to hand over, and what should become of them."""

import io
from functools import cache

import numpy as np
from altreco_client.images import crop
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, np.full_like(x, 80)], 2).astype(np.uint8))


@cache
def detailed(width: int, height: int) -> Image.Image:
    """Noise of every size on a gradient: what a photo's texture does to a resize."""
    rng = np.random.default_rng(0)
    picture = gradient(width, height)
    for parts in (1, 2, 4, 8, 32):
        noise = rng.integers(-24, 25, (-(-height // parts), -(-width // parts), 3)) + 128
        layer = Image.fromarray(noise.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        picture = ImageChops.add(picture, layer, offset=-128)
    return picture


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(file: bytes) -> NDArray[np.uint8]:
    """All of it decoded and turned, then the same resize."""
    with Image.open(io.BytesIO(file)) as image:
        return crop(ImageOps.exif_transpose(image).convert("RGB"))


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.abs(one.astype(np.int64) - other)
