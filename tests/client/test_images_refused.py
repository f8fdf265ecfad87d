import base64
import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from altreco_client import InvalidImage, prepare
from altreco_client.formats import FORMATS, MAX_SCANS
from PIL import Image

from tests.client.pictures import encoded, gradient


class Upload:
    """As web frameworks have them: its read() is to be awaited."""

    async def read(self, size: int) -> bytes:
        return b""[:size]


def closed() -> Image.Image:
    with io.BytesIO(encoded(gradient(300, 300), "PNG")) as file:
        return Image.open(file)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"this is no image", "16 bytes that are not JPEG, PNG, WEBP, GIF, BMP, TIFF, or are damaged; convert it"),
        (b"", "it is empty: expected the bytes of a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "that are not JPEG"),
        (encoded(gradient(500, 500), "JPEG")[:2000], "truncated"),
        (encoded(gradient(500, 500), "PNG")[:1000], "truncated"),
        (encoded(gradient(500, 500), "JPEG", progressive=True)[:-900], "truncated"),
        (Path("/nowhere/photo.jpg"), "photo.jpg: .*No such file"),
        (Path("/"), "directory"),
        (
            "https://example.org/photo.jpg",
            "https://example.org/photo.jpg: it is a URL, and URLs are not fetched: download it",
        ),
        (Path("s3://bucket/photo.jpg"), "URLs are not fetched"),
        ("photo\0.jpg", "null byte"),
        (np.zeros((4, 4, 3)), r"float64 \[4, 4, 3\]: expected uint8"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "expected uint8"),
        (np.zeros((4, 4, 4), dtype=np.uint8), "expected uint8"),
        (io.StringIO("text"), "open a file in mode 'rb'"),
        (Upload(), r"pass the result of `await file.read\(\)`"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "bytes: it is a HEIC file: convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypavif" + bytes(99), "an AVIF file"),
        (b"\xff\x0a" + bytes(99), "a JPEG XL file"),
        (b"\n<!DOCTYPE html><title>Sign in</title>", "an HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG or XML file"),
        (base64.b64encode(bytes(999)), "bytes: it is base64 text: decode it, and pass the bytes"),
        (base64.b64encode(bytes(999)).decode(), r"from \.\.\.A{57}: it is base64 text"),
        ("data:image/png;base64," + "A" * 9999, r"from data:image/png;base64,A{35}\.\.\.: it is a data URL: decode"),
        (Path("/nowhere/" + "x" * 99), r"from \.\.\.x{57}: No such file or directory$"),
        (Image.new("RGB", (0, 10)), "it has 0 x 10 pixels"),
        (Image.new("I", (9, 9), 200), "pixels of mode I have no fixed range: convert them to 8 bits"),
        (Image.new("F", (9, 9), 0.75), "pixels of mode F have no fixed range"),
        (closed(), "PngImageFile: I/O operation on closed file$"),
        (None, "NoneType is not an image: expected a path, bytes"),
        (7, "int is not an image"),
    ],
)
def test_what_is_no_image_is_refused(bad: object, reason: str) -> None:
    with pytest.raises(InvalidImage, match=reason):
        prepare(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"])
def test_too_many_pixels_are_refused_before_decoding(kind: str) -> None:
    file = encoded(Image.new("L", (1000, 900)), kind)
    head = file[: len(file) if kind in ("JPEG", "WEBP", "TIFF") else -len(file) // 4]  # these have to be whole
    with pytest.raises(InvalidImage, match=r"1000 x 900 pixels, more than the limit of 899,999; scale it down"):
        prepare(head, max_pixels=899_999)
    enough = 1_800_000 if kind == "WEBP" else 900_000  # it takes the memory of twice as many
    assert prepare(file, max_pixels=enough).tensor.shape == (224, 224, 3)


def test_the_limit_is_on_memory() -> None:
    with pytest.raises(InvalidImage, match="900,000 pixels take up to 14 MB to decode, more than the limit of 7 MB"):
        prepare(encoded(Image.new("L", (1000, 900)), "WEBP", lossless=True), max_pixels=900_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_raised_limit_holds_whatever_pillows_own_says(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert prepare(encoded(gradient(400, 300), kind)).tensor.shape == (224, 224, 3)
    assert Image.MAX_IMAGE_PIXELS == 10_000


def test_a_file_of_too_many_bytes_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = encoded(gradient(300, 300), "BMP")
    (tmp_path / "photo.bmp").write_bytes(file)
    stream = io.BytesIO(file + bytes(1000))
    for source in (stream, tmp_path / "photo.bmp"):
        with pytest.raises(InvalidImage, match="more than the limit of 5,000 bytes: raise max_bytes"):
            prepare(source, max_bytes=5000)
    assert stream.tell() == 5001
    assert prepare(tmp_path / "photo.bmp", max_bytes=len(file)).tensor.shape == (224, 224, 3)


def test_a_jpeg_of_very_many_scans_is_refused_and_what_follows_a_jpeg_is_not_counted() -> None:
    file = encoded(gradient(300, 300).convert("L"), "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    bomb = file[:last] + file[last:-2] * MAX_SCANS + file[-2:]
    scans = MAX_SCANS - 1 + file.count(b"\xff\xda")
    with pytest.raises(InvalidImage, match=f"a JPEG of {scans} scans, more than {MAX_SCANS}"):
        prepare(bomb)
    np.testing.assert_array_equal(prepare(file + b"\xff\xda" * 1000).tensor, prepare(file).tensor)


def test_no_warning_of_pillow_gets_out_and_filters_stay_as_they_are() -> None:
    entry = struct.pack("<HHLL", 270, 2, 10_000_000, 26)  # a description of 10 MB, which is not there
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    damaged = encoded(gradient(300, 300), "JPEG", exif=exif)
    with pytest.warns(UserWarning, match="Tag data larger|Truncated"), Image.open(io.BytesIO(damaged)) as image:
        image.getexif()  # Pillow by itself does warn
    before = list(warnings.filters)
    assert prepare(damaged).tensor.shape == (224, 224, 3)
    assert warnings.filters == before


def test_only_the_stated_formats_are_read() -> None:
    assert tuple(FORMATS) == ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    for kind in ("PPM", "TGA", "ICO", "EPS"):
        with pytest.raises(InvalidImage, match="convert it to one of these"):
            prepare(encoded(gradient(200, 200), kind))
