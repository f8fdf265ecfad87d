import io
import itertools
import os
from collections.abc import Callable

import numpy as np
import pytest
from altreco_client import InvalidImage, prepare
from altreco_client.images import crop, load_rgb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tests.client.pictures import detailed, encoded

LIMIT = 100_000
"""Pixels, so that a damaged header that says more is refused instead of being decoded at length."""


def converted(mode: str) -> Image.Image:
    picture = detailed(90, 60)
    return picture.convert("L").convert(mode) if mode == "I;16" else picture.convert(mode)  # Pillow 10 has no other way


PICTURES = {
    f"{kind} {mode} {options}": encoded(converted(mode), kind, **options)
    for kind, modes, variants in (
        ("JPEG", ("RGB", "L", "CMYK"), ({}, {"progressive": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"})),
        ("PNG", ("RGB", "RGBA", "LA", "P", "1", "I;16"), ({}, {"transparency": 3})),
        ("WEBP", ("RGB", "RGBA"), ({}, {"lossless": True})),
        ("GIF", ("P", "L"), ({}, {"transparency": 3, "interlace": 1})),
        ("BMP", ("RGB", "RGBA", "P", "1", "L"), ({},)),
        (
            "TIFF",
            ("RGB", "RGBA", "LA", "CMYK", "I;16", "P", "1"),
            ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "packbits"}),
        ),
        ("TIFF", ("RGB", "L"), ({"compression": "jpeg"},)),
    )
    for mode, options in itertools.product(modes, variants)
    if not ("transparency" in options and mode in ("RGB", "RGBA", "LA", "I;16"))
}
FRAMES = [detailed(90, 60), detailed(60, 90).resize((90, 60))]
ANIMATED = {
    f"{kind} of frames": encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:])
    for kind in ("GIF", "WEBP", "PNG")
}
FILES = st.sampled_from([*PICTURES.values(), *ANIMATED.values()])

fuzz = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])


def right_or_refused(image: object) -> None:
    """Any exception but InvalidImage, and any warning, fails the test."""
    try:
        tensor = prepare(image, max_pixels=LIMIT, max_bytes=LIMIT).tensor  # type: ignore[arg-type]
    except InvalidImage:
        return
    assert (tensor.dtype, tensor.shape) == (np.uint8, (224, 224, 3))


@pytest.mark.parametrize("name", [*PICTURES, *ANIMATED])
def test_whole_files_are_read(name: str) -> None:
    prepare((PICTURES | ANIMATED)[name])


@fuzz
@given(
    st.binary(max_size=2000), st.sampled_from([b"", *{file[:size] for file in PICTURES.values() for size in (4, 30)}])
)
def test_any_bytes(data: bytes, start: bytes) -> None:
    right_or_refused(start + data)


@fuzz
@given(FILES, st.floats(0, 1))
def test_files_cut_anywhere(file: bytes, share: float) -> None:
    right_or_refused(file[: int(len(file) * share)])


@fuzz
@given(FILES, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20))
def test_files_with_other_bytes_anywhere(file: bytes, changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(file)
    for place, value in changes:
        damaged[int(len(file) * place)] = value
    right_or_refused(bytes(damaged))


@fuzz
@given(FILES, st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=5))
def test_files_with_other_bytes_in_their_head(file: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(file)
    for place, value in changes:
        damaged[place % len(file)] = value
    right_or_refused(bytes(damaged))


@fuzz
@given(FILES, st.floats(0, 1), st.binary(max_size=100), st.integers(0, 100))
def test_files_with_parts_put_in_or_taken_out(file: bytes, share: float, data: bytes, skipped: int) -> None:
    place = int(len(file) * share)
    right_or_refused(file[:place] + data + file[place + skipped :])


@pytest.mark.slow
def test_mutants_are_right_or_refused_and_write_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """More of the same by a plain generator, which is faster. ALTRECO_MUTANTS=100000 makes so many."""
    files, rng = [*PICTURES.values(), *ANIMATED.values()], np.random.default_rng(0)
    for mutant in range(int(os.environ.get("ALTRECO_MUTANTS", "5000"))):
        file = bytearray(files[mutant % len(files)])
        for _ in range(rng.integers(1, 8)):
            head = len(file) if rng.random() < 0.5 else min(len(file), 400)
            file[rng.integers(head)] = rng.integers(256)
        place, length = rng.integers(len(file)), rng.integers(1, 40)
        match rng.integers(4):
            case 0:
                del file[place:]
            case 1:
                file[place:place] = rng.bytes(length)
            case 2:
                del file[place : place + length]
        right_or_refused(bytes(file))
    assert capfd.readouterr() == ("", "")


@fuzz
@given(
    st.one_of(arrays.scalar_dtypes(), arrays.array_dtypes()).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
    )
)
def test_arrays_of_any_dtype_and_shape(array: np.ndarray) -> None:
    right_or_refused(array)


@fuzz
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), st.integers(-3, 3))
def test_arrays_in_any_memory_order(array: np.ndarray, step: int) -> None:
    view = array[:: step or 1, ::-1].transpose(1, 0, 2)
    np.testing.assert_array_equal(prepare(view).tensor, crop(Image.fromarray(np.ascontiguousarray(view))))


@fuzz
@given(st.one_of(st.from_type(type).flatmap(st.from_type), st.text(max_size=50), st.binary(max_size=50)))
def test_any_objects(value: object) -> None:
    right_or_refused(value)


@fuzz
@given(
    FILES, st.lists(st.one_of(st.binary(max_size=9), st.none(), st.text(max_size=3), st.integers(-9, 9)), max_size=4)
)
def test_file_objects_that_give_anything(file: bytes, pieces: list[object]) -> None:
    class Odd(io.RawIOBase):
        def __init__(self) -> None:
            self.pieces = iter([file, *pieces, b""])

        def read(self, size: int = -1) -> object:
            return next(self.pieces)

    right_or_refused(Odd())


@pytest.mark.parametrize("error", [MemoryError, TimeoutError, RecursionError, KeyError, AttributeError, StopIteration])
@pytest.mark.parametrize("read", [prepare, load_rgb])
def test_file_objects_that_fail(error: type[Exception], read: Callable[[object], object]) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise error

    with pytest.raises(InvalidImage, match=f"from Failing: {error.__name__}") as caught:
        read(Failing())
    assert isinstance(caught.value.__cause__, error)
