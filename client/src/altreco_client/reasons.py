"""How much of a recommendation comes from the picture, and how much from the history."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InvalidRequest
from .results import Recommendation, Tag

SMALLEST = 1e-6
"""Scores are read as at least this, and at most 1 less this: the server rounds them to six digits."""


@dataclass(frozen=True)
class Reason:
    """Why a tag was recommended.

    `picture` is the score for the picture without a history, 0 to 1. The history multiplies the odds of the tag,
    score / (1 - score), by `history`: above 1 it raises the score, below 1 it lowers it.
    """

    tag: Tag
    picture: float
    history: float


def reason(tag: Tag, picture: float) -> Reason:
    """Compare a recommended tag with its score for the same picture without a history.

    >>> reason(Tag("sea", 0.75), picture=0.25)
    Reason(tag=Tag(name='sea', score=0.75), picture=0.25, history=9.0)
    """
    return Reason(tag, picture, _odds(tag.score) / _odds(picture))


def explain(answer: Recommendation, without_history: Recommendation) -> tuple[Reason, ...]:
    """Give the reasons for the tags of an answer, in its order.

    `without_history` is the answer for the same picture without a history and with all tags: `k` the size of the
    vocabulary. The server has the picture's encoding in its cache, so this second request costs little. Raises
    InvalidRequest if a tag is missing in it.
    """
    scores = {tag.name: tag.score for tag in without_history.tags}
    for tag in answer.tags:
        if tag.name not in scores:
            raise InvalidRequest(
                f"tag {tag.name!r} is not among the {len(scores)} tags without a history: expected the answer for all "
                "tags, with k the size of the vocabulary"
            )
    return tuple(reason(tag, scores[tag.name]) for tag in answer.tags)


def _odds(score: float) -> float:
    bounded = min(max(score, SMALLEST), 1 - SMALLEST)
    return bounded / (1 - bounded)
