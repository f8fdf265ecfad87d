import copy
import doctest
import json
import pickle
from collections import Counter
from collections.abc import Callable

import altreco_client.history
import altreco_client.vector
import numpy as np
import pytest
from altreco_client import InvalidHistory, InvalidRequest, Vocabulary
from altreco_client.history import MAX_TAGS, TagHistory

HISTORY = TagHistory({"sea": 3, "beach": 1, "dog": 1})


@pytest.mark.parametrize("module", [altreco_client.history, altreco_client.vector])
def test_examples_of_the_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_it_is_a_mapping_that_never_changes() -> None:
    HISTORY.add(["sky"])
    HISTORY.subtract(["sea"])
    assert dict(HISTORY) == {"sea": 3, "beach": 1, "dog": 1} == HISTORY
    assert "sea" in HISTORY
    assert "sky" not in HISTORY
    with pytest.raises(TypeError):
        HISTORY["sky"] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        HISTORY.tags = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        hash(HISTORY)


def test_it_does_not_follow_the_mapping_that_it_was_made_of() -> None:
    counts: dict[str, float] = {"sea": 1}
    history = TagHistory(counts)
    counts["sea"] = 9
    assert history["sea"] == 1


def test_copies_are_equal() -> None:
    assert TagHistory(HISTORY) == copy.deepcopy(HISTORY) == pickle.loads(pickle.dumps(HISTORY)) == HISTORY


def test_a_tag_counts_once_a_picture() -> None:
    assert TagHistory().add(["sea", "sea", " sea\n"]).add(iter(("sea", "dog"))) == {"sea": 2, "dog": 1}
    assert TagHistory.from_pictures([["sea", "sea"], [], ("dog", "sea")]) == {"sea": 2, "dog": 1}


def test_white_space_around_a_tag_is_cut_off_and_inside_it_kept() -> None:
    assert TagHistory({" new york\t": 2, "new york": 1}) == {"new york": 3}


def test_subtracting_stops_at_zero() -> None:
    assert HISTORY.subtract(["sea", "dog", "sky"]) == {"sea": 2, "beach": 1}
    assert HISTORY.subtract({"sea": 2, "beach": 7.5}) == {"sea": 1, "dog": 1}
    assert HISTORY.subtract(HISTORY) == TagHistory()


def test_a_subtracted_tag_has_no_count_left() -> None:
    assert list(TagHistory({"sea": 0, "dog": -0.0, "sky": 2})) == ["sky"]


def test_counts_become_python_numbers() -> None:
    history = TagHistory({np.str_("sea"): np.int64(3), "sky": np.float32(0.5), "dog": 2})  # type: ignore[dict-item]
    assert [(type(tag), type(count)) for tag, count in history.items()] == [(str, int), (str, float), (str, int)]
    assert history.to_json() == '{"counts": {"dog": 2, "sea": 3, "sky": 0.5}, "version": 1}'


def test_prune() -> None:
    assert HISTORY.prune(keep=2) == {"sea": 3, "beach": 1}
    assert HISTORY.prune(min_count=2) == {"sea": 3}
    assert HISTORY.prune(keep=2, min_count=2) == {"sea": 3}
    assert HISTORY.prune(keep=0) == {}
    assert HISTORY.prune(keep=99, min_count=0) == HISTORY


@pytest.mark.parametrize("options", [{}, {"keep": -1}, {"keep": 2.5}, {"min_count": -1}, {"min_count": float("nan")}])
def test_pruning_that_makes_no_sense_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match=r"expected|give keep, min_count or both"):
        HISTORY.prune(**options)


def test_top_is_the_same_for_equal_histories() -> None:
    assert HISTORY.top(2) == TagHistory({"dog": 1, "beach": 1, "sea": 3}).top(2) == ("sea", "beach")
    assert HISTORY.top(0) == ()
    assert HISTORY.top(10) == ("sea", "beach", "dog")
    with pytest.raises(InvalidRequest, match="number of tags is -1: expected a whole number of 0 or more"):
        HISTORY.top(-1)


def test_a_caller_can_ask_which_tags_the_server_knows() -> None:
    vocabulary = Vocabulary(("dog", "sea"))
    assert HISTORY.known(vocabulary) == ("sea", "dog")
    assert HISTORY.unknown(vocabulary) == ("beach",)


def test_repr_is_short() -> None:
    assert repr(TagHistory()) == "TagHistory({})"
    assert repr(HISTORY) == "TagHistory({'sea': 3, 'beach': 1, 'dog': 1})"
    assert repr(TagHistory({f"{i}": 1 for i in range(2000)})).endswith("'1000': 1, ... 1,995 more})")
    assert len(repr(TagHistory({"x" * 1000: 1}))) < 100


@pytest.mark.parametrize(
    "change",
    [
        lambda: HISTORY.add("sea"),
        lambda: HISTORY.add(b"sea"),  # type: ignore[arg-type]
        lambda: HISTORY.add(None),  # type: ignore[arg-type]
        lambda: HISTORY.add({"sea": 3}),
        lambda: HISTORY.add([["sea"]]),  # type: ignore[list-item]
        lambda: HISTORY.subtract("sea"),
        lambda: HISTORY.subtract(3),  # type: ignore[arg-type]
        lambda: HISTORY.merge(["sea"]),  # type: ignore[arg-type]
        lambda: HISTORY.merge(None),  # type: ignore[arg-type]
        lambda: HISTORY.merge({"sea": "3"}),  # type: ignore[dict-item]
        lambda: HISTORY.merge({"sea": 2e38}).merge({"sea": 2e38}),
        lambda: TagHistory(["sea"]),  # type: ignore[arg-type]
        lambda: TagHistory("sea"),  # type: ignore[arg-type]
        lambda: TagHistory({3: 1}),  # type: ignore[dict-item]
        lambda: TagHistory.from_pictures("sea"),
        lambda: TagHistory.from_pictures(["sea", "dog"]),
        lambda: TagHistory.from_pictures({"sea": 3}),
    ],
)
def test_misuse_says_what_was_expected(change: Callable[[], object]) -> None:
    with pytest.raises(InvalidHistory, match=r"expected (a|one|1) .*"):
        change()


@pytest.mark.parametrize("tag", ["", " \n", "x" * 1001, "a\nb", "a\x00b", "a\x9fb", "a\u2028b", "\ud83d"])
def test_what_no_vocabulary_can_hold_is_no_tag(tag: str) -> None:
    with pytest.raises(InvalidHistory, match="expected 1 to 1,000 characters on one line") as caught:
        TagHistory().add([tag])
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    "tag", ["caf\u00e9", "\U0001f468\u200d\U0001f469\u200d\U0001f466", "\u6d77", "x" * 1000, '"', "\\"]
)
def test_any_other_text_is_a_tag_and_survives_json(tag: str) -> None:
    history = TagHistory().add([tag])
    assert history[tag] == 1
    assert TagHistory.from_json(history.to_json()) == history


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff", "not JSON"),
        (None, "not JSON"),
        ("[" * 200_000, "not JSON"),
        ('{"version": 1, "counts": {"sea": ' + "9" * 5000 + "}}", "not JSON|finite"),
        ("[]", "not a history"),
        ("3", "not a history"),
        ('{"sea": 3}', r'not a history.*expected \{"version": 1'),
        ('{"version": 2, "counts": {}}', "version 2.*too old"),
        ('{"version": true, "counts": {}}', "version True"),
        ('{"version": 1.0, "counts": {}}', "version 1.0"),
        ('{"version": "1", "counts": {}}', "version '1'"),
        ('{"version": 1}', "not a history"),
        ('{"version": 1, "counts": []}', "not a history"),
        ('{"version": 1, "counts": null}', "not a history"),
        ('{"version": 1, "counts": {}, "user": 7}', "not a history"),
        ('{"version": 1, "version": 1, "counts": {}}', "'version' is repeated"),
        ('{"version": 1, "counts": {"sea": 1, "sea": 2}}', "'sea' is repeated"),
        ('{"version": 1, "counts": {"sea": -1}}', "count of 'sea' is -1"),
        ('{"version": 1, "counts": {"sea": NaN}}', "NaN in the JSON"),
        ('{"version": 1, "counts": {"sea": -Infinity}}', "-Infinity in the JSON"),
        ('{"version": 1, "counts": {"sea": 1e999}}', "count of 'sea' is inf"),
        ('{"version": 1, "counts": {"sea": true}}', "count of 'sea' is True"),
        ('{"version": 1, "counts": {"sea": "3"}}', "count of 'sea' is '3'"),
        ('{"version": 1, "counts": {"sea": {"a": 1}}}', "count of 'sea' is"),
        ('{"version": 1, "counts": {"": 1}}', "tag ''"),
        ('{"version": 1, "counts": {"\\ud800": 1}}', "lone surrogates"),
    ],
)
def test_other_json_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidHistory, match=reason):
        TagHistory.from_json(text)


def test_more_tags_than_anyone_uses_are_refused() -> None:
    counts = {str(i): 1 for i in range(MAX_TAGS + 1)}
    with pytest.raises(InvalidHistory, match=r"1,000,001 tags: expected at most 1,000,000; prune"):
        TagHistory.from_json(json.dumps({"version": 1, "counts": counts}))
    counts.pop("0")
    with pytest.raises(InvalidHistory, match="1,000,001 tags"):
        TagHistory(counts).add(["one more"])


def test_many_keys_that_end_with_a_repeated_one_are_refused_at_once() -> None:
    keys = ",".join(f'"{i}":1' for i in [*range(300_000), 299_999])
    with pytest.raises(InvalidHistory, match="'299999' is repeated"):
        TagHistory.from_json(f'{{"version":1,"counts":{{{keys}}}}}')


def test_it_counts_as_a_counter_does() -> None:
    generator = np.random.default_rng(0)
    pictures = [[str(tag) for tag in generator.integers(0, 20, 8)] for _ in range(100)]
    expected = Counter(tag for picture in pictures for tag in set(picture))
    history = TagHistory()
    for picture in pictures:
        history = history.add(picture)
    assert history == expected == TagHistory.from_pictures(pictures)
    for picture in pictures[:50]:
        history = history.subtract(picture)
    assert history == TagHistory.from_pictures(pictures[50:])
