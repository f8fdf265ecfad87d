"""Image formats: what is read of each, what their decoding takes, and the names of those that are not read."""

from __future__ import annotations

import ctypes
import io
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImagePalette,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    _imaging,
)

with suppress(AttributeError):  # not exported where libtiff is linked statically
    # Otherwise a damaged TIFF writes a line for each of its rows to stderr. Pillow gives the error as well.
    _libtiff = ctypes.CDLL(_imaging.__file__)
    _libtiff.TIFFSetErrorHandler(None)
    _libtiff.TIFFSetWarningHandler(None)


class TiffFile(TiffImagePlugin.TiffImageFile):
    """TIFF without what Pillow does after decoding: it reads all EXIF data, and turns the picture."""

    def load_end(self) -> None:
        """Take the size as it is stored."""
        self._size = self.im.size


FORMATS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffFile,
}
"""Accepted formats, by Pillow's names: those that people upload. Pillow's other formats would only give an attacker
more code to reach; EPS, for example, runs Ghostscript.

Image.open is not used, because it has a pixel limit for the whole process. Pillow's GIF, WebP and TIFF readers apply
that limit too: above 2 x PIL.Image.MAX_IMAGE_PIXELS, 179 million, they refuse a picture whatever max_pixels is."""

BYTES_PER_PIXEL = 8
"""Memory that decoding may take, in bytes for each of max_pixels. Only WebP takes more, 16."""

MAX_SCANS = 64
"""Most scans in a JPEG; a progressive one has about ten. Each scan takes a pass over the whole picture, however few
bytes it has: a file of 260 KB with 106 scans of 64 megapixels took 6 s."""

MAX_TAGS, MAX_TAG_VALUES = 200, 100_000
"""Most tags in a TIFF, and values in them; a photo has about 30, and two values for each strip or tile. Pillow takes
some 400 bytes for each strip, and reads tags while other threads wait."""

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes in memory for each pixel of a mode; 4 for those of _FOUR_BYTES."""
_FOUR_BYTES = ("LA", "La", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV")

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""JPEG markers that a length follows, and the end marker FFD9 (ITU T.81, table B.1). Scan data has none of these."""
_START_OF_SCAN, _END = b"\xff\xda", b"\xff\xd9"

_PNG_CHUNKS = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
"""The optional chunks of a PNG that matter. Pillow unpacks texts and colour profiles, and refuses large ones."""
_PNG_ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""The texts of a PNG in which Pillow finds an orientation."""

_TIFF_COMPRESSIONS = (1, 5, 7, 8, 32946, 32773)
"""None, LZW, JPEG, Deflate (two numbers), PackBits. libtiff's others are rare in photos, and some take gigabytes or
accept any bytes."""
_BYTES, _STRIPS = (1, 2, 6, 7), (273, 279, 324, 325)
"""Types of tags that Pillow leaves as bytes, and the tags of which it makes a list in any case."""
_GREY, _RGB, _PALETTE, _CMYK, _YCBCR = (0, 1), 2, 3, 5, 6
_TIFF_KINDS = {
    *((photometric, (bits,), ()) for photometric in (*_GREY, _PALETTE) for bits in (1, 2, 4, 8)),
    (1, (16,), ()),
    *((1, (8, 8), (extra,)) for extra in (0, 1, 2)),
    *((_RGB, (bits,) * 3, ()) for bits in (8, 16)),
    *((_RGB, (bits,) * 4, extra) for bits in (8, 16) for extra in ((), (0,), (1,), (2,))),
    (_CMYK, (8,) * 4, ()),
    (_YCBCR, (8,) * 3, ()),
}
"""Photometric interpretation, bits of each sample, extra samples (TIFF 6.0). Pillow reads more, some of it wrongly."""

_BASE64 = re.compile(rb"[A-Za-z0-9+/\r\n]{64,}={0,2}\s*")
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", "a JPEG XL file"),
    (4, b"JXL \r\n", "a JPEG XL file"),
    (4, b"jP  \r\n", "a JPEG 2000 file"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
    *((4, b"ftyp" + brand, "a HEIC file") for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (4, b"ftypavi", "an AVIF file"),
    (4, b"ftyp", "a video"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\3\4", "a ZIP archive"),
    *((0, start, "an HTML page") for start in (b"<!doctype html", b"<html")),
    *((0, start, "an SVG or XML file") for start in (b"<svg", b"<?xml")),
)


def encoded_text(data: bytes) -> str | None:
    """Name a data URL or base64, and say what to do with it."""
    if data.startswith(b"data:"):
        return "a data URL: decode the base64 after its comma, and pass the bytes"
    return "base64 text: decode it, and pass the bytes" if _BASE64.fullmatch(data[:400]) else None


def read_header(data: bytes) -> ImageFile.ImageFile:
    """Open the file, its pixels not decoded yet. Raises ValueError with the reason, or what Pillow raises."""
    name = next((name for name in FORMATS if _starts_as(name, data)), None)
    if name is None:
        raise ValueError(f"it is {_other(data)}")
    if name == "TIFF":
        _check_tags(data)
    if name == "BMP" and _transparent_16_bit_bmp(data):
        raise ValueError("a BMP of 16 bits with transparency is not read: save it as PNG")
    file = io.BytesIO(_without_texts(data) if name == "PNG" else data)
    opened = FORMATS[name](file)
    if name == "JPEG":
        _check_scans(data, file.tell())
    if name == "TIFF":
        _mend_palette(opened)
    if name == "PNG" and isinstance(key := opened.info.get("transparency"), int):
        # Pillow scales the pixels of these to 8 bits, and not the grey that is transparent.
        opened.info["transparency"] = key * {"L;2": 0x55, "L;4": 0x11}.get(str(_stored_as(opened)), 1)
    return opened


def check(image: Image.Image, max_pixels: int) -> None:
    """Raise ValueError for a picture whose pixels would come out wrong, or that takes too much memory."""
    if 0 in image.size:
        raise ValueError(f"it has {image.width} x {image.height} pixels")
    if image.width * image.height > max_pixels:
        raise ValueError(
            f"it has {image.width} x {image.height} pixels, more than the limit of {max_pixels:,}; "
            "scale it down, or raise max_pixels"
        )
    if image.mode not in _STORED and image.mode not in _FOUR_BYTES:
        raise ValueError(f"pixels of mode {image.mode} have no fixed range: convert them to 8 bits (L or RGB)")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image.tag_v2)
    if isinstance(image, PngImagePlugin.PngImageFile) and partial(image):
        raise ValueError("the first frame of this PNG does not fill it: save that frame alone")
    if "transparency" in image.info and isinstance(image, ImageFile.ImageFile) and _stored_as(image) == "RGB;16B":
        raise ValueError("a PNG of 16-bit colours with a transparent colour is not read: save it with 8 bits")


def memory_bytes(image: Image.Image, pixels: int) -> int:
    """Estimate what decoding and converting take, at most; `pixels`: as many as before a reduction of the scale."""
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        return 16 * pixels  # two canvases of libwebp, its buffer, and the result
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        more = 2 * len(image.getbands())  # coefficients, which are held whole if the file is progressive
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        more = 8 if _is_16_bit(image) else 4  # a strip may be all of it
    elif isinstance(image, GifImagePlugin.GifImageFile) and partial(image):
        more = 12
    elif image.mode.startswith("I;16"):
        more = 8 if "transparency" in image.info else 4
    else:
        more = 4 if image.mode in ("P", "PA") or "transparency" in image.info else 1
    return _STORED.get(image.mode, 4) * image.width * image.height + more * pixels


def _is_16_bit(image: TiffImagePlugin.TiffImageFile) -> bool:
    return bool(max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) == 16)


def _stored_as(image: ImageFile.ImageFile) -> object:
    """Pillow's name of the pixels' layout in a file that is not decoded yet."""
    return image.tile[0].args if image.tile else None


def _starts_as(name: str, data: bytes) -> bool:
    _, accepts = Image.OPEN[name]
    return accepts is None or bool(accepts(data[:16]))


def _other(data: bytes) -> str:
    """Name what is in bytes of none of the formats."""
    if not data:
        return "empty: expected the bytes of a picture"
    start = data[:100].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for place, signature, name in _OTHERS:
        if start.startswith(signature.lower(), place):
            return f"{name}: convert it to JPEG or PNG"
    return encoded_text(data) or (
        f"{len(data):,} bytes that are not {', '.join(FORMATS)}, or are damaged; convert it to one of these"
    )


def tag_count(data: bytes) -> int:
    """Return the number of tags of a TIFF, or of EXIF data, which has the same form."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    first = int.from_bytes(data[4:8], order)
    return int.from_bytes(data[first : first + 2], order)


def partial(image: ImageFile.ImageFile) -> bool:
    """Tell whether the first frame, not decoded yet, leaves some of the picture transparent."""
    return bool(image.tile) and image.tile[0].extents != (0, 0, *image.size)


def _check_scans(data: bytes, position: int) -> None:
    """Raise ValueError for a JPEG without an end, or with too many scans. `position` is at the data of the first."""
    if data.rfind(_END, position) < 0:
        raise ValueError("it is truncated: the end of the JPEG is missing")
    if data.count(_START_OF_SCAN, position) < MAX_SCANS:  # a quick check that nearly all files pass
        return
    scans = 1
    while (marker := _MARKER.search(data, position)) and marker[0] != _END:
        scans += marker[0] == _START_OF_SCAN
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    if scans > MAX_SCANS:
        raise ValueError(f"it is a JPEG of {scans} scans, more than {MAX_SCANS}: save it again as baseline")


def _without_texts(data: bytes) -> bytes:
    """Return the PNG without the optional chunks that do not matter; what is damaged stays for Pillow to refuse."""
    kept, start, position = [], 0, 8
    while position + 8 <= len(data):
        kind = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        texts = kind in (b"tEXt", b"zTXt", b"iTXt") and data.startswith(_PNG_ORIENTATION, position + 8)
        if kind[:1].islower() and kind not in _PNG_CHUNKS and not texts and end <= len(data):
            kept.append(data[start:position])
            start = end
        position = end
    return b"".join([*kept, data[start:]]) if kept else data


def _transparent_16_bit_bmp(data: bytes) -> bool:
    header, bits, alpha = data[14:18], data[28:30], data[66:70]
    return int.from_bytes(header, "little") >= 56 and bits == b"\x10\0" and any(alpha)


def _check_tags(data: bytes) -> None:
    """Raise ValueError for a TIFF with too many tags, or with tags for which Pillow has no words."""
    order = "<" if data[:2] == b"II" else ">"
    if data[:4] not in (b"II*\0", b"MM\0*"):
        raise ValueError("a TIFF of this version (BigTIFF) is not read: save it as PNG")
    first = struct.unpack(order + "L", data[4:8])[0]
    if (count := tag_count(data)) > MAX_TAGS:
        raise ValueError(f"it is a TIFF of {count:,} tags, more than {MAX_TAGS}: save it as PNG")
    entries = struct.iter_unpack(order + "HHL4x", data[first + 2 : first + 2 + 12 * count])
    values = sum(number for tag, kind, number in entries if kind not in _BYTES or tag in _STRIPS)
    if values > MAX_TAG_VALUES:
        raise ValueError(f"it is a TIFF of {values:,} values in its tags, more than {MAX_TAG_VALUES:,}: save it as PNG")
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    file = io.BytesIO(data)
    file.seek(first)
    tags.load(file)
    _check_tiff(tags)


def _check_tiff(tags: Mapping[int, Any]) -> None:
    compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
    if compression not in _TIFF_COMPRESSIONS:
        raise ValueError(f"a TIFF with compression {compression} is not read: save it with LZW or Deflate, or as PNG")
    if tags.get(254, 0) not in (0, 2) or tags.get(255, 1) == 2:  # NewSubfileType, SubfileType
        raise ValueError("the first page of this TIFF is a thumbnail or a mask: save the picture alone")
    width, height = tags.get(TiffImagePlugin.IMAGEWIDTH, 0), tags.get(TiffImagePlugin.IMAGELENGTH, 0)
    if tags.get(TiffImagePlugin.TILEWIDTH, 1) * tags.get(TiffImagePlugin.TILELENGTH, 1) > max(width * height, 1024**2):
        raise ValueError("the tiles of this TIFF are larger than its picture: save it as PNG")
    photometric, planar = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION), tags.get(284, 1)
    bits, extra = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)), tags.get(TiffImagePlugin.EXTRASAMPLES, ())
    formats, order = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)), tags.get(TiffImagePlugin.FILLORDER, 1)
    if len(bits) == 1:  # for all samples
        bits = bits * min(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1), 5)
    kind = (photometric, bits, extra)
    read = kind in _TIFF_KINDS and set(formats) == {1} and order == 1
    separate = planar == 1 or (planar == 2 and kind == (_RGB, (8, 8, 8), ()))
    if not read or not separate or (photometric == _YCBCR and compression != 7):
        raise ValueError(
            f"a TIFF of this kind is not read (photometric {photometric}, bits {bits}, sample formats {formats}, "
            f"extra samples {extra}, planes {planar}): save it as PNG, or with 8 bits"
        )


def _mend_palette(image: Image.Image) -> None:
    """Take a palette of 8-bit entries for what its writer meant; by the standard, all of it would be black."""
    entries = image.tag_v2.get(TiffImagePlugin.COLORMAP) if isinstance(image, TiffFile) else None
    if image.mode == "P" and entries and max(entries) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(entries))
