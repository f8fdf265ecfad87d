"""What a call gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import ServerError


@dataclass(frozen=True)
class Tag:
    """A recommended tag; `score` is the model's probability, 0 to 1 (a fallback's: its share of the largest count)."""

    name: str
    score: float


@dataclass(frozen=True)
class Recommendation:
    """The tags, best first, and where they come from.

    `model_version` is the release that answered. `fallback` is None, or, where a fallback was asked for, the error that
    kept the server from answering: then `tags` are the user's own most frequent ones, and `model_version` is None.
    `unknown_tags` are those of the history that the server does not know; they had no influence.
    """

    tags: tuple[Tag, ...]
    model_version: str | None
    request_id: str = field(default="", compare=False)
    unknown_tags: tuple[str, ...] = ()
    fallback: ServerError | None = field(default=None, compare=False)
