from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from altreco_client import InvalidHistory, UnknownTag, Vocabulary, tag_counts
from altreco_client.history import TagHistory
from altreco_client.text import shown
from altreco_client.vector import tag_counts_and_unknown

VOCABULARY = Vocabulary(("sea", "beach", "sky", "dog"))
LARGEST = float(np.finfo(np.float32).max)


def test_counts_are_sent_as_they_are_in_the_order_of_the_vocabulary() -> None:
    counts = tag_counts({"beach": 1, "sea": 4}, VOCABULARY)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, [4, 1, 0, 0])


@pytest.mark.parametrize("empty", [None, {}, {"sea": 0}, {"sea": -0.0}, TagHistory()], ids=repr)
def test_no_history_is_all_zeros(empty: Mapping[str, float] | None) -> None:
    np.testing.assert_array_equal(tag_counts(empty, VOCABULARY), np.zeros(4))


@pytest.mark.parametrize(
    "count", [1, 0.5, 1e38, 10**38, 2**100, np.float16(2), np.int8(2), np.uint64(2**63), np.float32(3e38), LARGEST]
)
def test_counts_of_any_size_and_type_that_fit_float32(count: float) -> None:
    counts = tag_counts({"sea": count, "sky": count, "dog": 0}, VOCABULARY)
    np.testing.assert_array_equal(counts, np.array([count, 0, count, 0], dtype=np.float32))
    assert np.isfinite(counts).all()


@pytest.mark.parametrize(
    "count",
    [
        -1,
        -5e-324,
        float("nan"),
        float("inf"),
        1e39,
        10**39,
        LARGEST * (1 + 1e-15),
        10**400,
        10**5000,
        [10**5000],
        True,
        None,
        "3",
        b"3",
        3j,
        np.float16("inf"),
        np.longdouble("1e4000"),
        np.complex64(1),
        np.True_,
        np.array([1, 2]),
        Decimal(3),
        Fraction(3),
    ],
    ids=shown,
)
def test_impossible_counts_are_refused(count: object) -> None:
    with pytest.raises(InvalidHistory, match=r"count of 'sea' is .*finite number of zero or more, at most 3\.4e38"):
        tag_counts({"sea": count}, VOCABULARY)  # type: ignore[dict-item]


@pytest.mark.parametrize("history", [["sea"], "sea:3", [], "", 0, [("sea", 3)], np.zeros(4), {"sea"}])
def test_what_is_no_mapping_is_refused(history: object) -> None:
    with pytest.raises(InvalidHistory, match="expected a TagHistory, or a mapping of tags to counts"):
        tag_counts(history, VOCABULARY)  # type: ignore[arg-type]


@pytest.mark.parametrize("tag", [3, None, b"sea", ("sea",)])
def test_a_tag_is_a_str(tag: object) -> None:
    with pytest.raises(InvalidHistory, match=r"tag .*expected a str"):
        tag_counts({tag: 1}, VOCABULARY)  # type: ignore[dict-item]


def test_unknown_tags_are_named_with_what_was_perhaps_meant() -> None:
    with pytest.raises(UnknownTag, match=r"'beech'.*did you mean beach") as caught:
        tag_counts({"beech": 1, "sea": 1}, VOCABULARY)
    assert caught.value.tags == ("beech",)


def test_unknown_tags_can_be_left_out() -> None:
    counts, unknown = tag_counts_and_unknown({"beech": 9, "sea": 1}, VOCABULARY, unknown_tags="ignore")
    np.testing.assert_array_equal(counts, [1, 0, 0, 0])
    assert unknown == ("beech",)


def test_unknown_tags_of_a_kept_history_are_left_out_unless_told_otherwise() -> None:
    history = TagHistory({"beech": 9, "sea": 2, "sky": 1})
    counts, unknown = tag_counts_and_unknown(history, VOCABULARY)
    np.testing.assert_array_equal(counts, [2, 0, 1, 0])
    assert unknown == history.unknown(VOCABULARY) == ("beech",)
    with pytest.raises(UnknownTag):
        tag_counts(history, VOCABULARY, unknown_tags="error")


def test_a_misspelt_option_does_not_hide_unknown_tags() -> None:
    with pytest.raises(UnknownTag, match='unknown_tags="ignore"'):
        tag_counts({"beech": 9}, VOCABULARY, unknown_tags="ingore")  # type: ignore[arg-type]


def test_only_unknown_tags_are_a_cold_start() -> None:
    np.testing.assert_array_equal(tag_counts(TagHistory({"beech": 9}), VOCABULARY), np.zeros(4))


@pytest.mark.parametrize("kept", [False, True])
def test_a_history_of_a_hundred_thousand_tags(kept: bool) -> None:
    vocabulary = Vocabulary(tuple(f"tag{i}" for i in range(1540)))
    history: Mapping[str, float] = {f"tag{i}": i + 1 for i in range(100_000)}
    if kept:
        history = TagHistory(history)
    counts, unknown = tag_counts_and_unknown(history, vocabulary, unknown_tags="ignore")
    np.testing.assert_array_equal(counts, np.arange(1, 1541))
    assert unknown == tuple(f"tag{i}" for i in range(1540, 100_000))
    with pytest.raises(UnknownTag, match=r"'tag1540', .* and 98455 more"):
        tag_counts(history, vocabulary, unknown_tags="error")


def test_a_message_stays_short_whatever_is_in_the_history() -> None:
    with pytest.raises(InvalidHistory) as caught:
        tag_counts({"x" * 10_000_000: "y" * 10_000_000}, VOCABULARY)  # type: ignore[dict-item]
    assert len(str(caught.value)) < 300
    with pytest.raises(UnknownTag) as unknown:
        tag_counts({"x" * 10_000_000: 1, "\ud800": 1}, VOCABULARY)
    assert len(str(unknown.value)) < 300
    assert str(unknown.value).encode()  # a lone surrogate is escaped


def test_any_mapping_will_do() -> None:
    class Row(Mapping[str, float]):
        def __getitem__(self, tag: str) -> float:
            return {"sea": 1, "sky": 2}[tag]

        def __iter__(self) -> Iterator[str]:
            return iter(("sea", "sky"))

        def __len__(self) -> int:
            return 2

    np.testing.assert_array_equal(tag_counts(Row(), VOCABULARY), [1, 0, 2, 0])


def test_a_vocabulary_holds_each_tag_once() -> None:
    with pytest.raises(ValueError, match="1 repeated"):
        Vocabulary(("sea", "sea"))
