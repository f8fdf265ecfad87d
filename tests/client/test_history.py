import numpy as np
import pytest
from altreco_client import InvalidHistory, UnknownTag, Vocabulary, history_vector
from altreco_client.__main__ import parse_history
from altreco_client.history import normalize

VOCABULARY = Vocabulary(("sea", "beach", "sky", "dog"))


def test_counts_are_divided_by_the_largest() -> None:
    vector = history_vector({"beach": 1, "sea": 4}, VOCABULARY)
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, [1, 0.25, 0, 0])


@pytest.mark.parametrize("empty", [None, {}, {"sea": 0}])
def test_no_history_is_all_zeros(empty: dict[str, float] | None) -> None:
    np.testing.assert_array_equal(history_vector(empty, VOCABULARY), np.zeros(4))


def test_rows_are_normalized_each_by_its_own_largest() -> None:
    np.testing.assert_array_equal(normalize([[2, 1], [0, 0], [0, 5]]), [[1, 0.5], [0, 0], [0, 1]])


def test_counts_beyond_float32_still_give_finite_shares() -> None:
    np.testing.assert_array_equal(history_vector({"sea": 1e300, "sky": 5e299}, VOCABULARY), [1, 0, 0.5, 0])


@pytest.mark.parametrize("count", [-1, float("nan"), float("inf"), "3", None, True])
def test_impossible_counts_are_refused(count: object) -> None:
    with pytest.raises(InvalidHistory, match=r"count of 'sea' is .*expected a finite number of zero or more"):
        history_vector({"sea": count}, VOCABULARY)  # type: ignore[dict-item]


def test_unknown_tags_are_named_with_what_was_perhaps_meant() -> None:
    with pytest.raises(UnknownTag, match=r"'beech'.*did you mean beach") as caught:
        history_vector({"beech": 1, "sea": 1}, VOCABULARY)
    assert caught.value.tags == ("beech",)


def test_unknown_tags_can_be_left_out() -> None:
    vector = history_vector({"beech": 9, "sea": 1}, VOCABULARY, unknown_tags="ignore")
    np.testing.assert_array_equal(vector, [1, 0, 0, 0])


def test_a_vocabulary_holds_each_tag_once() -> None:
    with pytest.raises(ValueError, match="1 repeated"):
        Vocabulary(("sea", "sea"))


def test_history_of_the_command_line() -> None:
    assert parse_history("sea:3, beach ,a:b:2,sea:1") == {"sea": 4, "beach": 1, "a:b": 2}
    assert parse_history("") == {}
    with pytest.raises(InvalidHistory, match="expected TAG:COUNT"):
        parse_history("sea:many")
