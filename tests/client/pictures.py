"""Pictures to hand over, and what should become of them."""

import io
import struct
import zlib
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


def tiff(tags: dict[int, tuple[int, ...]], *strips: bytes, order: str = "<", side: int = 256) -> bytes:
    """A TIFF of `side` x `side` pixels, with these tags beside those of its size and strips; all values are LONGs."""
    body, offsets = (b"II*\0" if order == "<" else b"MM\0*") + bytes(4), []
    for strip in strips:
        offsets.append(len(body))
        body += strip + bytes(len(strip) % 2)
    tags = {256: (side,), 257: (side,), 278: (side,), 273: tuple(offsets), 279: tuple(map(len, strips)), **tags}
    entries = b""
    for tag, values in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}L", *values)
        if len(values) > 1:
            raw, body = struct.pack(order + "L", len(body)), body + raw
        entries += struct.pack(order + "HHL", tag, 4, len(values)) + raw
    head = struct.pack(order + "L", len(body))
    return body[:4] + head + body[8:] + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def png(depth: int, colour: int, pixel: bytes, *chunks: bytes, side: int = 256) -> bytes:
    """A PNG of `side` x `side` pixels, each `depth` bits of each sample of `pixel`; `chunks` before the pixels."""
    row = b"\0" + (pixel * side)[: side * len(pixel) * min(depth, 8) // 8]
    head = struct.pack(">LLBBBBB", side, side, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(row * side)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
