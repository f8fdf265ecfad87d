import io
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from altreco_client import InvalidImage, PreparedImage, prepare
from altreco_client.images import crop, load_crop, load_rgb
from PIL import Image

from tests.client.pictures import detailed, difference, encoded, gradient, plain

ORIENTATION = 0x0112
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera held so stores an upright picture."""


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def test_every_way_to_hand_over_an_image_gives_the_same_tensor(tmp_path: Path) -> None:
    image = gradient(400, 300)
    path = tmp_path / "photo.png"
    image.save(path)
    file = path.read_bytes()
    expected = prepare(image).tensor
    assert expected.shape == (224, 224, 3)
    assert expected.dtype == np.uint8
    read_already = io.BytesIO(file)
    read_already.read()
    for other in (
        *(path, str(path), file, bytearray(file), memoryview(file), np.asarray(image)),
        *(io.BytesIO(file), read_already, Image.open(path)),
    ):
        np.testing.assert_array_equal(prepare(other).tensor, expected)


def test_a_socket_that_brings_the_file_in_pieces() -> None:
    file = encoded(detailed(400, 300), "PNG")
    here, there = socket.socketpair()
    with here, there, here.makefile("rb", buffering=0) as raw:
        writer = threading.Thread(target=lambda: (there.sendall(file), there.shutdown(socket.SHUT_WR)))
        writer.start()
        tensor = prepare(raw).tensor
        writer.join()
    np.testing.assert_array_equal(tensor, prepare(file).tensor)


def test_prepared_is_taken_as_it_is() -> None:
    prepared = prepare(gradient(300, 300))
    assert prepare(prepared) is prepared
    assert isinstance(prepared, PreparedImage)


@pytest.mark.parametrize("tensor", [np.zeros((224, 224, 3)), np.zeros((224, 224), np.uint8), [[1]], None])
def test_another_tensor_cannot_pass_for_prepared(tensor: object) -> None:
    with pytest.raises(InvalidImage, match=r"expected uint8 \[224, 224, 3\], which prepare\(\) makes"):
        PreparedImage(tensor)  # type: ignore[arg-type]


def test_a_callers_pil_image_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(detailed(900, 800), "JPEG"))
    with Image.open(tmp_path / "photo.jpg") as image:
        prepare(image)
        shown = load_rgb(image)
        shown.paste((0, 0, 0), (0, 0, *shown.size))
        assert image.size == (900, 800)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(tmp_path / "photo.jpg")))


def test_crop_equals_scaling_the_whole_image_first() -> None:
    image = gradient(600, 450)
    scaled = image.resize((341, 256), Image.Resampling.BILINEAR)
    left, top = (341 - 224) // 2, (256 - 224) // 2
    expected = np.asarray(scaled.crop((left, top, left + 224, top + 224)))
    assert difference(crop(image), expected).max() <= 2


def test_crop_window_follows_its_place() -> None:
    image = gradient(600, 300)
    left, right = crop(image, x=0.0), crop(image, x=1.0)
    assert left[..., 0].mean() < 90
    assert right[..., 0].mean() > 165


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = gradient(1500, 1450)  # JPEG: at a quarter, 362.5 pixels high
    stored = upright.transpose(STORED[orientation]) if orientation > 1 else upright
    options = {"tiffinfo": {ORIENTATION: orientation}} if kind == "TIFF" else {"exif": oriented(orientation)}
    file = encoded(stored, kind, **options)
    assert difference(prepare(file).tensor, crop(upright)).max() <= 4
    assert difference(load_crop(file, 0.2, 1.0), crop(upright, 0.2, 1.0)).max() <= 4
    assert difference(crop(load_rgb(file)), crop(upright)).max() <= 4


def test_damaged_exif_does_not_make_a_picture_unreadable() -> None:
    for exif in (b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0"):
        image = gradient(300, 300)
        assert difference(prepare(encoded(image, "JPEG", exif=exif, quality=95)).tensor, crop(image)).max() <= 8


@pytest.mark.parametrize(
    ("width", "height", "left"),  # of the short side
    [(4000, 3000, 375), (1441, 1922, 360.25), (2003, 1501, 375.25), (721, 999, 360.5), (719, 500, 500)],
)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_is_decoded_at_reduced_scale_and_differs_little(
    width: int, height: int, left: float, options: dict[str, object]
) -> None:
    file = encoded(detailed(width, height), "JPEG", quality=90, **options)
    assert min(load_rgb(file).size) == np.ceil(left)
    apart = difference(prepare(file).tensor, plain(file))
    assert apart.max() <= 16
    assert apart.mean() <= 2


def test_reduced_scale_is_faster() -> None:
    file = encoded(detailed(4000, 3000), "JPEG", quality=50)

    def seconds(read: Callable[[bytes], object]) -> float:
        started = time.process_time()  # other tests need the processor, too
        read(file)
        return time.process_time() - started

    assert min(seconds(plain) for _ in range(3)) > 1.5 * min(seconds(prepare) for _ in range(3))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "La", "PA", "RGBa", "CMYK", "1", "I;16", "YCbCr", "HSV"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert prepare(Image.new(mode, (300, 260))).tensor.shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        *(("RGB", kind, {}) for kind in ("PNG", "BMP", "TIFF", "WEBP")),
        ("P", "PNG", {}),
        ("P", "GIF", {}),
        ("P", "PNG", {"transparency": 300 % 256}),
        ("L", "PNG", {"transparency": 0}),
        ("1", "PNG", {}),
        ("CMYK", "JPEG", {"quality": 95}),
        ("CMYK", "TIFF", {}),
        ("YCbCr", "JPEG", {"quality": 95}),
    ],
)
def test_files_of_other_modes_look_as_pillow_shows_them(mode: str, kind: str, options: dict[str, object]) -> None:
    file = encoded(gradient(330, 300).convert(mode), kind, **options)
    with Image.open(io.BytesIO(file)) as image:
        shown = image.convert("RGBA" if image.has_transparency_data else "RGB")
        expected = Image.new("RGB", shown.size, "white")
        expected.paste(shown, mask=shown if shown.mode == "RGBA" else None)
    assert difference(prepare(file).tensor, crop(expected)).max() <= 3


def test_the_inverted_cmyk_of_adobe_is_not_a_negative() -> None:
    file = encoded(gradient(300, 300).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in file  # Pillow writes CMYK inverted and marked so, as Adobe does
    assert difference(prepare(file).tensor, crop(gradient(300, 300))).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF"])
def test_transparency_is_laid_on_white(kind: str) -> None:
    assert prepare(encoded(Image.new("RGBA", (256, 256), (0, 0, 0, 0)), kind)).tensor.min() >= 254


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_half_transparent_is_half_white_and_colours_beneath_do_not_bleed(mode: str) -> None:
    image = Image.new("RGBA", (512, 512), (255, 0, 0, 0))  # invisible red
    image.paste((0, 0, 0, 128), (256, 0, 512, 512))
    tensor = prepare(image.convert(mode)).tensor
    assert tensor[:, 0].min() == 255
    assert difference(tensor[:, -1], np.full_like(tensor[:, -1], 127)).max() <= 1
    assert (np.ptp(tensor, axis=2) <= 1).all()


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_are_scaled_not_clipped(mode: str) -> None:
    pixels = np.full((256, 256), 0x8001, dtype=">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (256, 256), pixels.tobytes())
    assert set(prepare(image).tensor.flat) == {128}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_files_are_scaled_not_clipped(kind: str) -> None:
    assert set(prepare(encoded(Image.fromarray(np.full((256, 256), 0x8001, np.uint16)), kind)).tensor.flat) == {128}


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (300, 300), colour) for colour in ("red", "blue")]
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert difference(prepare(file).tensor, np.asarray([[[255, 0, 0]]], dtype=np.uint8)).max() <= 2


def test_a_very_long_image_needs_no_more_memory_than_a_square_one() -> None:
    assert prepare(Image.new("RGB", (1, 65_000))).tensor.shape == (224, 224, 3)
