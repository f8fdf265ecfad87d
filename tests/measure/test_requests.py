from itertools import islice

import numpy as np
from altreco_client import PreparedImage

from measure.requests import (
    KNOWN_PICTURES,
    LARGEST_COUNT,
    TAGS_IN_HISTORY,
    history,
    history_row,
    known,
    mixed,
    new_arrays,
    new_pictures,
    new_requests,
)

TAGS = [f"tag-{i}" for i in range(60)]


def test_no_new_picture_is_like_another_and_a_seed_draws_the_same_again() -> None:
    pictures = list(islice(new_pictures(), 50))
    assert len({picture.tobytes() for picture in pictures}) == 50
    assert next(new_pictures()).tobytes() not in {picture.tobytes() for picture in pictures}
    again, once_more = (list(islice(new_pictures([7, 1]), 3)) for _ in range(2))
    np.testing.assert_array_equal(again, once_more)
    assert PreparedImage(pictures[0]).tensor.shape == (224, 224, 3)


def test_histories_have_as_many_tags_as_there_are_for_them() -> None:
    counts = history(TAGS, seed=3)
    assert len(counts) == TAGS_IN_HISTORY
    assert set(counts) <= set(TAGS)
    assert max(counts.values()) == LARGEST_COUNT > 10 * min(counts.values()) > 0
    assert counts == history(TAGS, seed=3) != history(TAGS, seed=4)
    assert len(history(TAGS[:5])) == 5
    row = history_row(60, seed=3)
    assert (row.shape, row.dtype) == ((1, 60), np.float32)
    assert {TAGS[i]: row[0, i] for i in np.flatnonzero(row)} == counts


def test_requests_carry_the_arrays_of_the_contract() -> None:
    (image, row) = next(new_arrays(60, seed=1))
    request = next(new_requests(60, seed=1))
    assert [(entry.name(), entry.shape(), entry.datatype()) for entry in request] == [
        ("IMAGE", [1, 224, 224, 3], "UINT8"),
        ("USER_TAG_COUNTS", [1, 60], "FP32"),
    ]
    assert [entry._get_content() for entry in request] == [image.tobytes(), row.tobytes()]


def test_known_requests_are_spread_evenly_among_new_ones() -> None:
    again = known(iter(range(100)))
    assert again == list(range(KNOWN_PICTURES))
    asked = list(islice(mixed(iter(range(1000, 2000)), again, 0.25), 16))
    assert [number < 1000 for number in asked] == [False, False, False, True] * 4
    assert asked[3::4] == again[:4]
    assert list(islice(mixed(iter([1, 2]), again, 1.0), KNOWN_PICTURES + 1)) == [*again, again[0]]
    assert list(islice(mixed(iter([1, 2]), again, 0.0), 2)) == [1, 2]
