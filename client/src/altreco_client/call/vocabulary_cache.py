"""The server's vocabulary as the client knows it. Every answer is compared with it.

Triton's classification extension labels every class in an answer. An answer from a new release, or with a label at
another index than before, is not used. The request is sent again and asks for the labels of all N classes, which are
the whole vocabulary of the model that answers.

From time to time a request asks for all labels anyway. This finds a repository that was replaced by another one with
the same release number, the same N and the same labels in the answers so far.
"""

from __future__ import annotations

import logging
import time

from ..errors import ContractMismatch
from ..vocabulary import Vocabulary
from .wire import Answer, RankedClass

LOGGER = logging.getLogger("altreco_client")


class VocabularyCache:
    """The vocabulary in use and the releases known to have it; threads may share it.

    `check_s` is the time in seconds after which a request asks for all labels again.
    """

    def __init__(self, check_s: float) -> None:
        """Start without a vocabulary."""
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
        """Take the vocabulary from an answer with all labels; the current object is kept if it is equal.

        Raises ContractMismatch if its labels are no vocabulary.
        """
        served = _labels(answer.rows[0])
        if self.current is not None and served == self.current.tags:
            self._releases |= {answer.version}
        else:
            try:
                self.current = Vocabulary(served)
            except ValueError as error:
                raise ContractMismatch(
                    f"the labels of release {answer.version} are no vocabulary: {error}; correct the vocabulary that "
                    "it was trained with, and export a release"
                ) from error
            LOGGER.info("vocabulary of release %s: %d tags", answer.version, len(served))
            self._releases = frozenset({answer.version})
        self._checked_at = time.monotonic()
        self.release = answer.version
        return self.current


def _labels(row: tuple[RankedClass, ...]) -> tuple[str, ...]:
    return tuple(entry.label for entry in sorted(row, key=lambda entry: entry.class_index))
