"""What the client knows of the server's vocabulary, such that a history vector is never aligned with another one.

The classification extension names every class that it answers with, so every answer is compared with what is known. An
answer of a release that is new to the client, or with a label that is not where it was, is not used: the request goes
out again and asks for the labels of all N classes, which tells the whole vocabulary of just the model that answers.
The same is done with one request now and then, for a server whose repository was exchanged for another with the same
release number, the same N and the same names among the tags of the answers.
"""

from __future__ import annotations

import logging
import time

from ..vocabulary import Vocabulary
from .wire import Answer, RankedClass

LOGGER = logging.getLogger("altreco_client")


class VocabularyCache:
    """The vocabulary in use, and the releases that were seen to have it; threads may share it.

    `check_s`: seconds after which a request asks for all labels again.
    """

    def __init__(self, check_s: float) -> None:
        """Nothing is known at first."""
        self.current: Vocabulary | None = None
        self.release = ""
        self._check_s, self._checked_at = check_s, 0.0
        self._releases: frozenset[str] = frozenset()

    def is_due(self) -> bool:
        """Whether the next request should ask for all labels."""
        return time.monotonic() - self._checked_at > self._check_s

    def confirms(self, answer: Answer, vocabulary: Vocabulary) -> bool:
        """Whether the model that answered is known to have this vocabulary."""
        return (
            vocabulary is self.current
            and answer.version in self._releases
            and all(vocabulary.tags[entry.class_index] == entry.label for row in answer.rows for entry in row)
        )

    def learn(self, answer: Answer) -> Vocabulary:
        """From an answer with the labels of all classes: the vocabulary of its release, the same object if it is."""
        served = _vocabulary(answer.rows[0])
        self._checked_at = time.monotonic()
        if self.current is not None and served.tags == self.current.tags:
            self._releases |= {answer.version}
        else:
            LOGGER.info("vocabulary of release %s: %d tags", answer.version, len(served))
            self._releases = frozenset({answer.version})
            self.current = served
        self.release = answer.version
        return self.current


def _vocabulary(row: tuple[RankedClass, ...]) -> Vocabulary:
    return Vocabulary(tuple(entry.label for entry in sorted(row, key=lambda entry: entry.class_index)))
