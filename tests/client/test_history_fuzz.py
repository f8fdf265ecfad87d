"""Whatever is given as a history: the right counts or InvalidHistory, never another exception."""

import contextlib
import json
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
from altreco_client import InvalidHistory, Vocabulary
from altreco_client.cli.history import parse_history
from altreco_client.history import TagHistory
from altreco_client.vector import tag_counts_and_unknown
from hypothesis import example, given, settings
from hypothesis import strategies as st

fuzz = settings(deadline=None, max_examples=200)

VOCABULARY = Vocabulary(("sea", "beach", "sky", "dog"))
LARGEST = float(np.finfo(np.float32).max)

numpy_scalars = st.one_of(
    st.floats(width=16).map(np.float16),
    st.floats(width=32).map(np.float32),
    st.floats().map(np.float64),
    st.floats().map(np.longdouble),
    st.integers(0, 255).map(np.uint8),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.integers(0, 2**64 - 1).map(np.uint64),
    st.booleans().map(np.bool_),
    st.complex_numbers().map(np.complex128),
)
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 6000).map(lambda digits: 10**digits),
    st.floats(),
    st.decimals(allow_nan=False),  # a signalling NaN has no hash, which makes it no key
    st.just(Decimal("NaN")),
    st.fractions(),
    st.complex_numbers(),
    st.text(),
    st.binary(),
    numpy_scalars,
)
good_counts = st.one_of(
    st.integers(0, 2**127),
    st.floats(0, LARGEST),
    st.sampled_from([5e-324, 2.2e-308, -0.0, LARGEST]),
    st.floats(0, width=16, allow_infinity=False).map(np.float16),
    st.integers(0, 255).map(np.uint8),
)
names = st.sampled_from(VOCABULARY.tags) | st.text()
tags = st.sampled_from(VOCABULARY.tags) | st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1
)
whole = st.dictionaries(tags, st.integers(1, 2**70), max_size=8).map(TagHistory)
weighted = st.dictionaries(tags, st.integers(0, 2**126) | st.floats(0, 1e38), max_size=8).map(TagHistory)
pictures = st.lists(st.lists(tags, max_size=5), max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["version", "counts"]), inner),
)


def check_counts(history: object) -> None:
    counts, unknown = tag_counts_and_unknown(history, VOCABULARY, unknown_tags="ignore")  # type: ignore[arg-type]
    assert counts.dtype == np.float32
    assert counts.shape == (len(VOCABULARY),)
    assert np.isfinite(counts).all()
    assert (counts >= 0).all()
    given = dict(history or {})  # type: ignore[call-overload]
    assert set(unknown) == given.keys() - set(VOCABULARY.tags)
    known = [float(given.get(tag, 0)) for tag in VOCABULARY.tags]
    np.testing.assert_allclose(counts, known, rtol=1e-6, atol=1e-37)


@fuzz
@given(st.dictionaries(names | anything, anything, max_size=5) | st.lists(anything) | anything)
@example({"sea": 10**5000})
def test_anything_as_a_history(history: object) -> None:
    with contextlib.suppress(InvalidHistory):
        check_counts(history)
    with contextlib.suppress(InvalidHistory):
        check_counts(TagHistory(history))  # type: ignore[arg-type]


@fuzz
@given(st.dictionaries(names, good_counts, max_size=8))
def test_every_finite_count_is_sent(history: Mapping[str, float]) -> None:
    check_counts(history)


@fuzz
@given(weighted)
def test_a_kept_history_is_sent_as_its_counts(history: TagHistory) -> None:
    check_counts(history)
    counts, unknown = tag_counts_and_unknown(history, VOCABULARY)
    plain, same_unknown = tag_counts_and_unknown(dict(history), VOCABULARY, unknown_tags="ignore")
    np.testing.assert_array_equal(counts, plain)
    assert unknown == same_unknown == history.unknown(VOCABULARY)
    assert sorted(history.known(VOCABULARY) + unknown) == sorted(history)


@fuzz
@given(st.lists(names | anything) | anything | st.dictionaries(names, anything))
def test_anything_as_the_tags_of_a_picture(picture: object) -> None:
    with contextlib.suppress(InvalidHistory):
        added = TagHistory().add(picture)  # type: ignore[arg-type]
        assert set(added.values()) <= {1}
        assert added.subtract(picture) == TagHistory()  # type: ignore[arg-type]


@fuzz
@given(json_values | json_values.map(lambda counts: {"version": 1, "counts": counts}))
def test_any_json_is_a_history_or_refused(value: object) -> None:
    with contextlib.suppress(InvalidHistory):
        check_counts(TagHistory.from_json(json.dumps(value)))


@fuzz
@given(st.text() | st.binary() | st.text().map(lambda text: f'{{"version": 1, "counts": {{{text}}}}}'))
def test_any_text_is_a_history_or_refused(text: str | bytes) -> None:
    with contextlib.suppress(InvalidHistory):
        check_counts(TagHistory.from_json(text))


@fuzz
@given(st.text() | st.lists(st.text(":0123456789.-einfa \u0663"), max_size=4).map(",".join))
def test_any_typed_history_is_one_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidHistory):
        check_counts(parse_history(text))


@fuzz
@given(weighted)
def test_json_round_trip(history: TagHistory) -> None:
    text = history.to_json()
    again = TagHistory.from_json(text)
    assert again == history
    assert again.to_json() == text == TagHistory(dict(reversed(list(history.items())))).to_json()
    assert {tag: type(count) for tag, count in again.items()} == {tag: type(count) for tag, count in history.items()}


@fuzz
@given(whole, whole, whole)
def test_merge_and_subtract_of_whole_counts(a: TagHistory, b: TagHistory, c: TagHistory) -> None:
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(b).subtract(b) == a
    assert a.merge(TagHistory()) == a == a.subtract(TagHistory())
    assert a.subtract(a) == TagHistory()


@fuzz
@given(weighted, weighted)
def test_counts_are_never_zero_or_less(a: TagHistory, b: TagHistory) -> None:
    for history in (a.merge(b), a.subtract(b), a.prune(keep=3)):
        assert all(count > 0 for count in history.values())


@fuzz
@given(pictures, st.randoms())
def test_the_order_of_pictures_does_not_matter(pictures: list[list[str]], random: object) -> None:
    history = TagHistory()
    for picture in pictures:
        history = history.add(picture)
    random.shuffle(pictures)  # type: ignore[attr-defined]
    assert history == TagHistory.from_pictures(pictures)
    for picture in pictures:
        history = history.subtract(picture)
    assert history == TagHistory()


@fuzz
@given(weighted, st.integers(0, 10), st.floats(0, 1e300))
def test_pruning_keeps_the_most_frequent(history: TagHistory, keep: int, min_count: float) -> None:
    pruned = history.prune(keep=keep, min_count=min_count)
    enough = [tag for tag in history.top(len(history)) if history[tag] >= min_count]
    assert pruned.top(keep) == tuple(enough[:keep])
    assert pruned.prune(keep=keep, min_count=min_count) == pruned
