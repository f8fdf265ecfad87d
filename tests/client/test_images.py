import io
from pathlib import Path

import numpy as np
import pytest
from altreco_client import InvalidImage, PreparedImage, prepare
from altreco_client.images import crop
from PIL import Image


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, np.full_like(x, 80)], 2).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_way_to_hand_over_an_image_gives_the_same_tensor(tmp_path: Path) -> None:
    image = gradient(400, 300)
    path = tmp_path / "photo.png"
    image.save(path)
    expected = prepare(image).tensor
    assert expected.shape == (224, 224, 3)
    assert expected.dtype == np.uint8
    for other in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), np.asarray(image)):
        np.testing.assert_array_equal(prepare(other).tensor, expected)


def test_prepared_is_taken_as_it_is() -> None:
    prepared = prepare(gradient(300, 300))
    assert prepare(prepared) is prepared
    assert isinstance(prepared, PreparedImage)


def test_crop_equals_scaling_the_whole_image_first() -> None:
    image = gradient(600, 450)
    scaled = image.resize((341, 256), Image.Resampling.BILINEAR)
    left, top = (341 - 224) // 2, (256 - 224) // 2
    expected = np.asarray(scaled.crop((left, top, left + 224, top + 224))).astype(int)
    assert np.abs(crop(image).astype(int) - expected).max() <= 2


def test_crop_window_follows_its_place() -> None:
    image = gradient(600, 300)
    left, right = crop(image, x=0.0), crop(image, x=1.0)
    assert left[..., 0].mean() < 90
    assert right[..., 0].mean() > 165


def test_exif_orientation_is_applied() -> None:
    upright = gradient(300, 300)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = prepare(encoded(upright.rotate(180), "PNG", exif=exif)).tensor
    np.testing.assert_array_equal(turned, prepare(upright).tensor)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1", "I;16"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert prepare(Image.new(mode, (300, 260))).tensor.shape == (224, 224, 3)


def test_transparency_is_laid_on_white() -> None:
    assert prepare(Image.new("RGBA", (256, 256), (0, 0, 0, 0))).tensor.min() == 255


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    image = Image.fromarray(np.full((256, 256), 0x8000, dtype=np.uint16))
    assert np.abs(prepare(image).tensor.astype(int) - 128).max() <= 1


def test_a_very_long_image_needs_no_more_memory_than_a_square_one() -> None:
    assert prepare(Image.new("RGB", (1, 65_000))).tensor.shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"this is no image", "cannot read"),
        (b"", "cannot read"),
        (encoded(gradient(500, 500), "JPEG")[:2000], "truncated"),
        (Path("/nowhere/photo.jpg"), "photo.jpg"),
        (np.zeros((4, 4, 3)), r"float64 \[4, 4, 3\]: expected uint8"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "expected uint8"),
    ],
)
def test_what_is_no_image_is_refused(bad: object, reason: str) -> None:
    with pytest.raises(InvalidImage, match=reason):
        prepare(bad)  # type: ignore[arg-type]


def test_too_many_pixels_are_refused_before_decoding() -> None:
    bomb = encoded(Image.new("1", (9_000, 9_000)), "PNG")
    with pytest.raises(InvalidImage, match=r"9000 x 9000 pixels, more than the limit of 64,000,000"):
        prepare(bomb)
    assert prepare(bomb, max_pixels=81_000_000).tensor.shape == (224, 224, 3)
