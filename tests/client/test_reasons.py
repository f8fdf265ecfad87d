import doctest
import math
import sys

import pytest
from altreco_client import InvalidRequest, Reason, Recommendation, Tag, explain


def answer(**scores: float) -> Recommendation:
    return Recommendation(tuple(Tag(name, score) for name, score in scores.items()), model_version="1")


def test_the_parts_make_the_score() -> None:
    """The logits are a sum: what the history adds multiplies the odds."""
    picture, history = {"sea": -1.5, "dog": 0.2}, {"sea": 3.0, "dog": -2.0}
    with_history = {tag: 1 / (1 + math.exp(-picture[tag] - history[tag])) for tag in picture}
    alone = {tag: 1 / (1 + math.exp(-logit)) for tag, logit in picture.items()}
    reasons = explain(answer(**with_history), answer(cat=0.4, **alone))
    assert [reason.tag.name for reason in reasons] == ["sea", "dog"], "in the order of the answer"
    assert [reason.picture for reason in reasons] == [alone["sea"], alone["dog"]]
    assert [math.log(reason.history) for reason in reasons] == pytest.approx([3.0, -2.0])


def test_scores_of_0_and_1_have_finite_reasons() -> None:
    (up,) = explain(answer(sea=1.0), answer(sea=0.0))
    (down,) = explain(answer(sea=0.0), answer(sea=1.0))
    assert up.history == pytest.approx(1 / down.history)
    assert math.isfinite(up.history)
    assert explain(answer(sea=1.0), answer(sea=1.0)) == (Reason(Tag("sea", 1.0), 1.0, 1.0),)


def test_an_answer_without_the_tag_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="tag 'sea' is not among the 1 tags without a history: exp"):
        explain(answer(sea=0.5), answer(dog=0.5))


def test_the_example_is_true() -> None:
    result = doctest.testmod(sys.modules[explain.__module__])
    assert (result.attempted, result.failed) == (1, 0)
