import numpy as np
import pytest
from altreco_client import DeadlineExceeded, PreparedImage, Recommendation, Tag, Unavailable

from measure.callers import Call, Calls
from reliability.questions import ALLOWED, K, Question, kept

SCORES = {f"tag-{i}": i / 10 for i in range(10)}
QUESTION = Question(PreparedImage(np.zeros((224, 224, 3), dtype=np.uint8)), {}, SCORES)
BEST = ("tag-9", "tag-8", "tag-7", "tag-6", "tag-5")


def answer(names: tuple[str, ...], change: float = 0.0) -> Recommendation:
    tags = tuple(Tag(name=name, score=SCORES[name] + change) for name in names)
    return Recommendation(tags=tags, request_id="", model_version="1")


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (answer(BEST), True),
        (answer(BEST, ALLOWED / 2), True),
        (answer(BEST, 2 * ALLOWED), False),
        (answer((*BEST[:-1], "tag-4")), False),
        (answer(BEST[: K - 1]), False),
    ],
)
def test_what_is_right(given: Recommendation, right: bool) -> None:
    assert QUESTION.right(given) is right


def call(started_s: float, ended_s: float, error: Exception | None = None, right: bool = True) -> Call[bool]:
    return Call(started_s, ended_s, right if error is None else None, error)


@pytest.mark.parametrize(
    ("calls", "held"),
    [
        ([call(0, 1)], [True, True]),
        ([call(0, 1), call(0, 9, DeadlineExceeded("late"))], [False, True]),
        ([call(0, 1), call(0, 1, right=False)], [True, False]),
        ([call(0, 1, Unavailable("gone"))], [True, False]),  # nothing was answered
    ],
)
def test_what_must_hold_of_calls(calls: list[Call[bool]], held: list[bool]) -> None:
    assert [check.held for check in kept(Calls(calls), deadline_s=1.0)] == held
