"""Right or refused: what each format can hold."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from altreco_client import InvalidImage, decoding, prepare
from altreco_client.formats import MAX_TAGS, TiffFile, memory_bytes, read_header
from PIL import Image

from tests.client.pictures import chunk, detailed, encoded, gradient, png, tiff

WHITE, GREY, ORANGE = (255, 255, 255), (170, 170, 170), (200, 100, 50)
SIDE = 256


def colour(file: bytes) -> tuple[int, ...]:
    """The colour that the whole picture has."""
    tensor = prepare(file).tensor
    assert (tensor == tensor[0, 0]).all()
    return tuple(tensor[0, 0].tolist())


def pixels(bits: int, *samples: int, order: str = "<") -> bytes:
    """SIDE x SIDE pixels of these samples."""
    if bits == 16:
        return np.array(samples, dtype=order + "u2").tobytes() * SIDE**2
    together = "".join(f"{sample:0{bits}b}" for sample in samples) * 8
    return int(together, 2).to_bytes(len(together) // 8, "big") * (SIDE**2 // 8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(
    ("photometric", "bits", "extra", "samples", "expected"),
    [
        *((1, bits, (), (2**bits - 1,), WHITE) for bits in (1, 2, 4, 8, 16)),
        *((0, bits, (), (0,), WHITE) for bits in (1, 2, 4, 8)),
        *((1, bits, (), ((2**bits - 1) * 2 // 3,), GREY) for bits in (2, 4, 8)),
        *((0, bits, (), ((2**bits - 1) // 3,), GREY) for bits in (2, 4, 8)),
        (1, 16, (), (0xAA55,), GREY),
        *((1, 8, (extra,), (170, 255), GREY) for extra in (0, 1, 2)),
        *((1, 8, (extra,), (0, 0), WHITE) for extra in (1, 2)),
        (2, 8, (), ORANGE, ORANGE),
        *((2, 8, extra, (*ORANGE, 255), ORANGE) for extra in ((), (0,), (1,), (2,))),
        *((2, 8, (extra,), (0, 0, 0, 0), WHITE) for extra in (1, 2)),
        (2, 16, (), tuple(value << 8 | 99 for value in ORANGE), ORANGE),
        *((2, 16, (extra,), (*(value << 8 for value in ORANGE), 65535), ORANGE) for extra in (0, 1, 2)),
        *((3, bits, (), (1,), ORANGE) for bits in (1, 2, 4, 8)),
        (5, 8, (), (0, 0, 0, 85), GREY),
    ],
)
def test_a_tiff_has_the_colour_that_was_written(
    photometric: int,
    bits: int,
    extra: tuple[int, ...],
    samples: tuple[int, ...],
    expected: tuple[int, ...],
    compression: int,
    order: str,
) -> None:
    data = pixels(bits, *samples, order=order)
    tags = {258: (bits,) * len(samples), 259: (compression,), 262: (photometric,), 277: (len(samples),)}
    if extra:
        tags[338] = extra
    if photometric == 3:
        tags[320] = tuple(entry for value in ORANGE for entry in (0, value << 8, *[0] * (2**bits - 2)))
    assert colour(tiff(tags, data if compression == 1 else zlib.compress(data), order=order)) == expected


def test_a_tiff_of_separate_planes() -> None:
    planes = [bytes([value]) * SIDE**2 for value in ORANGE]
    assert colour(tiff({258: (8, 8, 8), 262: (2,), 277: (3,), 284: (2,)}, *planes)) == ORANGE


def test_a_palette_of_8_bit_entries_is_not_black() -> None:
    palette = tuple(value for value in ORANGE for _ in range(256))
    assert colour(tiff({258: (8,), 262: (3,), 277: (1,), 320: palette}, bytes(SIDE**2))) == ORANGE


PLAIN = {258: (8,), 262: (1,), 277: (1,)}
TIFFS = {
    "compression 4 is not read: save it with LZW": PLAIN | {259: (4,)},
    "compression 6 is": PLAIN | {259: (6,)},
    "compression 34712 is": PLAIN | {259: (34712,)},
    "compression 34925 is": PLAIN | {259: (34925,)},
    r"kind is not read \(photometric 1, bits \(12,\)": PLAIN | {258: (12,)},
    r"kind .*bits \(32,\), sample formats \(1,\)": PLAIN | {258: (32,)},
    r"kind .*sample formats \(3,\)": PLAIN | {258: (32,), 339: (3,)},
    r"kind .*sample formats \(2,\)": PLAIN | {339: (2,)},
    r"kind .*photometric 0, bits \(16,\)": {258: (16,), 262: (0,), 277: (1,)},
    r"kind .*photometric 6": {258: (8, 8, 8), 262: (6,), 277: (3,)},
    r"kind .*photometric 8": {258: (8, 8, 8), 262: (8,), 277: (3,)},
    r"kind .*bits \(16, 16, 16\).*planes 2": {258: (16, 16, 16), 262: (2,), 277: (3,), 284: (2,)},
    r"kind .*photometric None": {258: (8,), 277: (1,)},
    "the first page of this TIFF is a thumbnail": PLAIN | {254: (1,)},
    f"{MAX_TAGS + 50} tags, more than {MAX_TAGS}": PLAIN | dict.fromkeys(range(50000, 50000 + MAX_TAGS + 42), (0,)),
    "tiles of this TIFF are larger than its picture": PLAIN | {322: (32_768,), 323: (32_768,), 324: (8,), 325: (9,)},
    "200,007 values in its tags, more than 100,000": PLAIN | {273: (0,) * 200_000},
}


@pytest.mark.parametrize("reason", TIFFS)
def test_other_tiffs_are_refused_in_words(reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidImage, match=reason):
        prepare(tiff(TIFFS[reason], bytes(8 * SIDE**2)))
    assert capfd.readouterr() == ("", "")


def test_a_damaged_tiff_writes_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    file = bytearray(encoded(detailed(300, 300), "TIFF", compression="tiff_lzw"))
    file[1000:3000] = bytes(2000)
    with pytest.raises(InvalidImage, match="it is damaged"):
        prepare(bytes(file))
    assert capfd.readouterr() == ("", "")


def test_no_lock_is_held_while_a_tiff_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    load = TiffFile.load
    monkeypatch.setattr(TiffFile, "load", lambda file: (held.append(decoding._FILTERS_LOCK.locked()), load(file))[1])
    prepare(encoded(gradient(300, 300), "TIFF", compression="tiff_adobe_deflate"))
    assert set(held) == {False}


@pytest.mark.parametrize(
    ("depth", "pixel", "key"),
    [(1, b"\xff", 1), (2, b"\x55", 1), (4, b"\x55", 5), (8, b"\x07", 7), (16, b"\x0a\x07", 0xA07)],
)
def test_a_grey_that_a_png_calls_transparent_is_white(depth: int, pixel: bytes, key: int) -> None:
    shown = png(depth, 0, pixel, chunk(b"tRNS", struct.pack(">H", key ^ 1)))
    assert colour(png(depth, 0, pixel, chunk(b"tRNS", struct.pack(">H", key)))) == WHITE
    assert colour(shown) == colour(png(depth, 0, pixel))


def test_a_colour_of_16_bits_that_a_png_calls_transparent_is_refused() -> None:
    with pytest.raises(InvalidImage, match="16-bit colours with a transparent colour is not read"):
        prepare(png(16, 2, b"\1\2" * 3, chunk(b"tRNS", b"\1\2" * 3)))


def test_texts_and_profiles_of_a_png_are_not_unpacked() -> None:
    large = zlib.compress(bytes(1_100_000))
    texts = [chunk(b"zTXt", b"prompt\0\0" + large), chunk(b"iCCP", b"profile\0\0" + large)] * 40
    plain = png(8, 2, bytes(ORANGE), *texts)
    assert colour(plain) == ORANGE
    assert colour(plain[:-12] + texts[0] + plain[-12:]) == ORANGE


def test_the_orientation_in_a_text_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    words = f"\nexif\n{len(exif.tobytes()) + 6:8}\n{(b'Exif' + bytes(2) + exif.tobytes()).hex()}\n".encode()
    picture = gradient(300, 300)
    file = encoded(picture, "PNG")
    text = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(words))
    turned = prepare(file[:33] + text + file[33:]).tensor
    np.testing.assert_array_equal(turned, prepare(picture.transpose(Image.Transpose.ROTATE_180)).tensor)


def test_a_gif_is_white_around_a_small_first_frame() -> None:
    frame = Image.new("P", (200, 200), 1)
    frame.putpalette([10, 20, 30, *ORANGE])
    file = bytearray(encoded(frame, "GIF", optimize=False))
    file[6:10] = struct.pack("<HH", 400, 400)
    place = file.index(b"\x2c", 13 + 3 * (2 << (file[10] & 7)))
    file[place + 1 : place + 9] = struct.pack("<HHHH", 100, 100, 200, 200)
    tensor = prepare(bytes(file)).tensor
    assert (tuple(tensor[0, 0]), tuple(tensor[112, 112])) == (WHITE, ORANGE)


def test_a_bmp_of_16_bits_with_transparency_is_refused() -> None:
    header = struct.pack("<LllHHLLllLL", 108, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0)
    header += struct.pack("<LLLL", 0x7C00, 0x3E0, 0x1F, 0x8000) + b"BGRs" + bytes(48)
    with pytest.raises(InvalidImage, match="a BMP of 16 bits with transparency is not read: save it as PNG"):
        prepare(b"BM" + struct.pack("<LHHL", 14 + len(header) + 32, 0, 0, 14 + len(header)) + header + bytes(32))


def test_a_png_whose_first_frame_is_a_part_is_refused() -> None:
    file = encoded(gradient(300, 300), "PNG")
    animated = chunk(b"acTL", struct.pack(">LL", 2, 0))
    frame = chunk(b"fcTL", struct.pack(">LLLLLHHBB", 0, 100, 100, 50, 50, 1, 1, 0, 0))
    with pytest.raises(InvalidImage, match="the first frame of this PNG does not fill it"):
        prepare(file[:33] + animated + frame + file[33:])


def test_much_exif_data_is_refused() -> None:
    file = encoded(gradient(300, 300), "PNG")
    with pytest.raises(InvalidImage, match="it has more than 1,048,576 bytes of EXIF data"):
        prepare(file[:33] + chunk(b"eXIf", b"II*\0" + bytes(1024**2)) + file[33:])


def test_a_jpeg_without_an_end_is_refused() -> None:
    file = encoded(detailed(400, 300), "JPEG", quality=90)
    for cut in (file[:-2], file[: len(file) // 2] + bytes(len(file) // 2)):
        with pytest.raises(InvalidImage, match="truncated: the end of the JPEG is missing"):
            prepare(cut)
    assert (prepare(file + bytes(1000)).tensor == prepare(file).tensor).all()


SHAPES = {
    "JPEG": {"quality": 30, "progressive": True, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}
MEMORY = """
import resource, sys
from altreco_client import prepare
prepare(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare(sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "P", "I;16", "1")),
        *(("TIFF", mode) for mode in ("RGB", "CMYK", "I;16")),
        *(("WEBP", "RGBA"), ("GIF", "P"), ("BMP", "RGB")),
    ],
)
def test_decoding_takes_no_more_memory_than_estimated(kind: str, mode: str, tmp_path: Path) -> None:
    pixels = 16_000_000
    image = Image.new(mode, (500, pixels // 500)) if kind == "JPEG" else Image.new(mode, (4000, 4000))
    file = encoded(image, kind, **SHAPES[kind])
    (tmp_path / "large").write_bytes(file)
    (tmp_path / "small").write_bytes(encoded(Image.new(mode, (300, 300)), kind, **SHAPES[kind]))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "large"), str(tmp_path / "small")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown <= memory_bytes(read_header(file), pixels) + 2 * len(file) + 20 * 2**20
