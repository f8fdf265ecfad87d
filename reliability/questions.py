"""Callers that send requests while something happens to the server, and know the right answers."""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from altreco_client import AltrecoError, Channel, PreparedImage, Recommendation, TagRecommender

from measure.callers import Call, Caller, Calls, calling
from measure.requests import history, new_pictures
from measure.waiting import wait_until
from reliability.outcome import Check

ALLOWED = 1e-3
"""Largest difference between two right answers; batches of different sizes are summed in different orders."""
K = 5
QUESTIONS = 16
WARM_UP_S = 30.0
"""Deadline of requests before the load."""
SLACK_S = 1.0
"""How much later than its deadline a call may return, as servers and callers share a few cores."""

Rights = Calls[bool]
"""Calls whose `answer` is whether the server's answer was right."""


@dataclass(frozen=True)
class Question:
    """A picture and a history, with the right score of every tag."""

    image: PreparedImage
    history: dict[str, float]
    scores: dict[str, float]

    def right(self, answer: Recommendation) -> bool:
        """Tell whether an answer has the best tags with the right scores, within ALLOWED."""
        least = sorted(self.scores.values())[-len(answer.tags)] - ALLOWED
        return len(answer.tags) == K and all(
            abs(self.scores[tag.name] - tag.score) <= ALLOWED and self.scores[tag.name] >= least for tag in answer.tags
        )

    def asked(self, recommender: TagRecommender) -> bool:
        """Send the request, and tell whether the answer is right; raises AltrecoError."""
        return self.right(recommender.recommend(self.image, self.history, K))


def question(recommender: TagRecommender, image: PreparedImage, counts: dict[str, float]) -> Question:
    """Create a question whose right answer is what the healthy server answers now; raises AltrecoError."""
    answer = recommender.recommend(image, counts, len(recommender.vocabulary.tags))
    return Question(image, counts, {tag.name: tag.score for tag in answer.tags})


def questions(url: str, count: int, *, deadline_s: float = WARM_UP_S) -> list[Question]:
    """Create questions from the healthy server at `url`, with the same pictures and histories each time."""
    with TagRecommender(url, deadline_s=deadline_s) as recommender:
        tags = recommender.vocabulary.tags
        pictures = itertools.islice(map(PreparedImage, new_pictures(0)), count)
        return [question(recommender, image, history(tags, number)) for number, image in enumerate(pictures)]


def keep_asking(
    recommender: TagRecommender, asked: Sequence[Question], *, callers: int = 8, every_s: float = 0.0
) -> AbstractContextManager[Rights]:
    """Run callers that share a client until the block is left; each asks at most once per `every_s` seconds."""

    def requests(number: int) -> Iterator[Question]:
        return (asked[turn % len(asked)] for turn in itertools.count(number, callers))

    return calling(
        [Caller(lambda one: one.asked(recommender), requests(number)) for number in range(callers)],
        every_s=every_s,
        failures=(AltrecoError,),
    )


@contextmanager
def under_load(
    url: str, *, callers: int, deadline_s: float, every_s: float = 0.0, channel: Channel | None = None
) -> Iterator[Rights]:
    """Run callers as `keep_asking` does; the healthy server at `url` first gives the right answers."""
    asked = questions(url, QUESTIONS)
    with TagRecommender(url, deadline_s=deadline_s, channel=channel or Channel()) as recommender:
        recommender.recommend(asked[0].image, asked[0].history, K, deadline_s=WARM_UP_S)
        with keep_asking(recommender, asked, callers=callers, every_s=every_s) as calls:
            yield calls


def passing(calls: Rights, seconds: float) -> Rights:
    """Let some seconds pass, and more if no call has ended; return the calls that started and ended in them."""
    begin_s = time.monotonic()
    time.sleep(seconds)
    wait_until(lambda: bool(calls.since(begin_s).ended), "the end of a call")
    return calls.since(begin_s)


def wrong(calls: Rights) -> list[Call[bool]]:
    """Select the calls with a wrong answer."""
    return [call for call in calls.answered if not call.answer]


def kept(calls: Rights, deadline_s: float) -> list[Check]:
    """Check what must hold under every fault; untyped errors have already been raised."""
    return [
        Check(
            f"every call ended within its deadline of {deadline_s:g} s (+ {SLACK_S:g} s for the shared cores)",
            calls.slowest_s <= deadline_s + SLACK_S,
        ),
        Check("no caller got a wrong answer", bool(calls.answered) and not wrong(calls)),
    ]


def good_checks(calls: Rights, deadline_s: float) -> list[Check]:
    """Check well-behaved clients during a fault that others cause: every answer right and in time."""
    return [*kept(calls, deadline_s), Check("no good call failed", not calls.failed)]
