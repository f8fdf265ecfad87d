"""Callers that ask without pause while something happens to the server, and know what a right answer is."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from altreco_client import AltrecoError, Channel, PreparedImage, Recommendation, TagRecommender

from reliability.outcome import Check

ALLOWED = 1e-3
"""Between two answers to one question: batches of another size are summed in another order."""
K = 5
QUESTIONS = 16
WARM_UP_S = 30.0
"""Deadline of what is asked before the load."""
SLACK_S = 1.0
"""How much later than its deadline a call may return where a few cores run the servers and all callers."""


@dataclass(frozen=True)
class Question:
    """A picture and a history, and the score of every tag."""

    image: PreparedImage
    history: dict[str, float]
    scores: dict[str, float]

    def right(self, answer: Recommendation) -> bool:
        """Whether these are the best tags, with their scores, as far as ALLOWED lets them differ."""
        least = sorted(self.scores.values())[-len(answer.tags)] - ALLOWED
        return len(answer.tags) == K and all(
            abs(self.scores[tag.name] - tag.score) <= ALLOWED and self.scores[tag.name] >= least for tag in answer.tags
        )


@dataclass(frozen=True)
class Call:
    """One that ended, on the machine's monotonic clock; `error` is the kind of what it raised."""

    started_s: float
    ended_s: float
    error: str | None
    right: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended_s - self.started_s


@dataclass
class Calls:
    """Those that ended so far."""

    ended: list[Call] = field(default_factory=list)

    def since(self, moment_s: float, until_s: float = float("inf")) -> "Calls":
        """Those that started then."""
        return Calls([call for call in self.ended if moment_s <= call.started_s < until_s])

    @property
    def answered(self) -> list[Call]:
        """Without an error."""
        return [call for call in self.ended if call.error is None]

    @property
    def failed(self) -> list[Call]:
        """With an error."""
        return [call for call in self.ended if call.error is not None]

    @property
    def wrong(self) -> list[Call]:
        """Answered, but not with the tags of that picture and history."""
        return [call for call in self.answered if not call.right]

    def under_way(self, moment_s: float) -> "Calls":
        """Those that had started by then, and had not ended."""
        return Calls([call for call in self.ended if call.started_s <= moment_s < call.ended_s])

    @property
    def slowest_s(self) -> float:
        """Of all, however they ended; 0 without any."""
        return max((call.seconds for call in self.ended), default=0.0)

    def errors(self) -> Counter[str]:
        """Kind to how many."""
        return Counter(call.error for call in self.failed if call.error is not None)

    def percentile_ms(self, percent: float) -> float:
        """Of the answered calls; nan without any."""
        seconds = [call.seconds for call in self.answered]
        return 1000 * float(np.percentile(seconds, percent, method="higher")) if seconds else float("nan")


def questions(url: str, count: int, *, deadline_s: float = WARM_UP_S) -> list[Question]:
    """Noise pictures and histories, with the answers that the healthy server at `url` gives."""
    rng = np.random.default_rng(0)
    with TagRecommender(url, deadline_s=deadline_s) as recommender:
        tags = recommender.vocabulary.tags
        asked = []
        for _ in range(count):
            image = PreparedImage(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8))
            history = {tags[i]: float(rng.integers(1, 9)) for i in rng.choice(len(tags), 5, replace=False)}
            answer = recommender.recommend(image, history, len(tags))
            asked.append(Question(image, history, {tag.name: tag.score for tag in answer.tags}))
    return asked


@contextmanager
def calling(
    recommender: TagRecommender, asked: Sequence[Question], *, callers: int = 8, every_s: float = 0.0
) -> Iterator[Calls]:
    """`callers` threads that ask one after the other, each at most once in `every_s`; joined at the end."""
    calls, stop = Calls(), threading.Event()

    def call(number: int) -> None:
        turn = number
        while not stop.is_set():
            ended = ask(recommender, asked[turn % len(asked)])
            calls.ended.append(ended)
            turn += callers
            stop.wait(max(0.0, every_s - ended.seconds))

    with ThreadPoolExecutor(callers) as pool:
        futures = [pool.submit(call, number) for number in range(callers)]
        try:
            yield calls
        finally:
            stop.set()
    for future in futures:
        future.result()


@contextmanager
def under_load(url: str, *, callers: int, deadline_s: float, channel: Channel | None = None) -> Iterator[Calls]:
    """Callers without pause that share a client; the healthy server at `url` says first what is right."""
    asked = questions(url, QUESTIONS)
    with TagRecommender(url, deadline_s=deadline_s, channel=channel or Channel()) as recommender:
        recommender.recommend(asked[0].image, asked[0].history, K, deadline_s=WARM_UP_S)
        with calling(recommender, asked, callers=callers) as calls:
            yield calls


def passing(calls: Calls, seconds: float) -> Calls:
    """Let so much time pass; the calls that began and ended meanwhile."""
    begin_s = time.monotonic()
    time.sleep(seconds)
    return calls.since(begin_s)


def kept(calls: Calls, deadline_s: float) -> list[Check]:
    """What holds of calls whatever happens to the server. Anything but a typed error was raised long before this."""
    return [
        Check(
            f"every call ended within its deadline of {deadline_s:g} s (+ {SLACK_S:g} s: the callers share the cores)",
            calls.slowest_s <= deadline_s + SLACK_S,
        ),
        Check("no caller got a wrong answer", bool(calls.answered) and not calls.wrong),
    ]


def ask(recommender: TagRecommender, question: Question) -> Call:
    """One call, however it ends."""
    started_s = time.monotonic()
    try:
        right, error = question.right(recommender.recommend(question.image, question.history, K)), None
    except AltrecoError as caught:
        right, error = False, type(caught).__name__
    return Call(started_s, time.monotonic(), error, right)


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 60.0) -> float:
    """The seconds until it came true; raises TimeoutError, which names `what` was waited for."""
    started_s = time.monotonic()
    while not condition():
        if time.monotonic() - started_s > seconds:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - started_s
