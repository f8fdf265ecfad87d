"""One rule for a tag: in histories, vocabularies and on the command line."""

import numpy as np
import pytest
from altreco_client import InvalidHistory, TagHistory, Vocabulary, tag_counts
from altreco_client.checks import MAX_TAG_LENGTH, checked_tag
from altreco_client.cli.history import parse_history

NFC, NFD = "caf\u00e9", "cafe\u0301"
IMPOSSIBLE = [
    "",
    " \t",
    "a\tb",
    "a\nb",
    "a\x85b",
    "a\u2028b",
    "a\x1b[2K",
    "\ufeffsea",
    "\ud800",
    "x" * (MAX_TAG_LENGTH + 1),
    "\u0958" * MAX_TAG_LENGTH,  # twice as long in NFC
]
OTHERWISE = [(" sea", "sea"), ("sea\u00a0", "sea"), ("sea\n", "sea"), (NFD, NFC), (f"{NFD} ", NFC)]
FIT = ["sea", "new york", "16:9", "rock, paper", NFC, "\U0001f3d6", "\u6d77", "a\u200db", "x" * MAX_TAG_LENGTH]


@pytest.mark.parametrize("tag", FIT)
def test_a_tag_is_the_same_everywhere(tag: str) -> None:
    assert checked_tag(tag) == tag
    assert list(TagHistory({tag: 1})) == [tag]
    assert list(TagHistory.from_pictures([[tag]])) == [tag]
    assert Vocabulary((tag,)).tags == (tag,)
    np.testing.assert_array_equal(tag_counts({tag: 2}, Vocabulary((tag,))), [2])


@pytest.mark.parametrize(("tag", "known"), OTHERWISE)
def test_white_space_and_unicode_form_make_no_difference_to_a_history(tag: str, known: str) -> None:
    assert TagHistory({tag: 2, known: 1}) == {known: 3}
    assert TagHistory({known: 1}).add([tag]) == {known: 2}
    assert parse_history(f"{tag.strip()}:2") == {known: 2}
    vocabulary = Vocabulary((known, "dog"))
    for history in ({tag: 2, known: 1}, {known: 1, tag: 2}):
        np.testing.assert_array_equal(tag_counts(history, vocabulary), [3, 0])


def test_the_sum_of_two_spellings_has_to_fit_as_well() -> None:
    with pytest.raises(InvalidHistory, match=r"at most 3\.4e38"):
        tag_counts({"sea": 3e38, " sea": 3e38}, Vocabulary(("sea",)))


@pytest.mark.parametrize(("tag", "known"), OTHERWISE)
def test_a_vocabulary_has_the_form_that_histories_have(tag: str, known: str) -> None:
    """Otherwise no history could name the tag."""
    with pytest.raises(ValueError, match=f"number 2, tag .*: expected '{known}', without white space"):
        Vocabulary(("dog", tag))


@pytest.mark.parametrize("tag", IMPOSSIBLE)
def test_what_is_no_tag_is_refused_everywhere(tag: str) -> None:
    expected = "tag .*: expected 1 to 1,000 characters on one line"
    for make in (lambda: TagHistory({tag: 1}), lambda: TagHistory().add([tag])):
        with pytest.raises(InvalidHistory, match=expected):
            make()
    with pytest.raises(ValueError, match=f"number 2, {expected}"):
        Vocabulary(("dog", tag))
    if tag.strip():
        with pytest.raises(InvalidHistory, match=r"expected (1 to 1,000 characters|TAG:COUNT)"):
            parse_history(f"{tag}:1")


@pytest.mark.parametrize(
    ("typed", "history"),
    [
        ("16:9:1", {"16:9": 1}),
        ("16:9", {"16": 9}),
        ('"rock, paper":2,sea', {"rock, paper": 2, "sea": 1}),
        ('sea, "rock, paper"', {"sea": 1, "rock, paper": 1}),
        ('"say ""cheese""":3', {'say "cheese"': 3}),
        ('5" nail:2', {'5" nail': 2}),
        ("C:\\photos:2", {"C:\\photos": 2}),
    ],
)
def test_colons_commas_and_quotes_can_be_typed(typed: str, history: dict[str, float]) -> None:
    assert parse_history(typed) == history


@pytest.mark.parametrize("typed", ["a:b", ":", "sea:3x"])
def test_a_count_that_is_none_is_refused_with_the_way_to_type_a_colon(typed: str) -> None:
    with pytest.raises(InvalidHistory, match="16:9:1 for a tag with a colon"):
        parse_history(typed)
