"""The results of a call."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import ServerError


@dataclass(frozen=True)
class Tag:
    """A recommended tag.

    `score` is the model's probability, 0 to 1; in a fallback, it is the tag's count divided by the largest one.
    """

    name: str
    score: float


@dataclass(frozen=True)
class Recommendation:
    """Recommended tags, best first.

    `model_version` is the release that answered. `unknown_tags` are the tags of the history that the server does not
    know and that had no influence.

    `fallback` is None for an answer from the server. Otherwise it is the server's error: `tags` are then the user's own
    most frequent tags, and `model_version` is None. This happens only if the call asked for a fallback.
    """

    tags: tuple[Tag, ...]
    model_version: str | None
    request_id: str = field(default="", compare=False)
    unknown_tags: tuple[str, ...] = ()
    fallback: ServerError | None = field(default=None, compare=False)
