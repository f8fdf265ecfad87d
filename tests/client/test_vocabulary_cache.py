from altreco_client.call.vocabulary_cache import VocabularyCache
from altreco_client.call.wire import Answer, RankedClass
from altreco_client.vocabulary import Vocabulary

TAGS = ("sea", "sky", "dog")


def answer(tags: tuple[str, ...], *, version: str = "1", order: tuple[int, ...] = (2, 0, 1)) -> Answer:
    return Answer((tuple(RankedClass(i, 1 / (place + 1), tags[i]) for place, i in enumerate(order)),), version)


def learned(check_s: float = 60.0) -> tuple[VocabularyCache, Vocabulary]:
    cache = VocabularyCache(check_s)
    return cache, cache.learn(answer(TAGS))


def test_the_vocabulary_is_in_the_order_of_the_classes_not_of_the_scores() -> None:
    cache, vocabulary = learned()
    assert vocabulary.tags == TAGS
    assert cache.current is vocabulary


def test_only_answers_of_a_known_release_with_labels_in_their_place_are_confirmed() -> None:
    cache, vocabulary = learned()
    assert cache.confirms(answer(TAGS, order=(1,)), vocabulary)
    assert not cache.confirms(answer(TAGS, version="2", order=(1,)), vocabulary)
    assert not cache.confirms(answer(("sea", "dog", "sky"), order=(1,)), vocabulary)


def test_a_release_with_the_same_tags_keeps_the_vocabulary_and_both_releases_are_known() -> None:
    cache, vocabulary = learned()
    assert cache.learn(answer(TAGS, version="2")) is vocabulary
    assert cache.confirms(answer(TAGS, version="1"), vocabulary)
    assert cache.confirms(answer(TAGS, version="2"), vocabulary)


def test_other_tags_replace_the_vocabulary_and_nothing_older_is_confirmed() -> None:
    cache, old = learned()
    new = cache.learn(answer(("sky", "sea", "dog"), version="1"))
    assert new.tags == ("sky", "sea", "dog")
    assert not cache.confirms(answer(TAGS), old)
    assert not cache.confirms(answer(("sky", "sea", "dog"), version="2"), new)


def test_a_check_is_due_at_first_and_again_when_the_time_is_over() -> None:
    assert VocabularyCache(60).is_due()
    assert not learned()[0].is_due()
    assert learned(check_s=0)[0].is_due()
