"""What a caller may ask of one call, checked."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from .channel import check_headers
from .errors import InvalidRequest

REQUEST_ID = re.compile(r"[!-~]{1,128}")


class Options(TypedDict, total=False):
    """The options of every `recommend...` method.

    deadline_s: seconds for all of the call, preparing the picture and retries included (default: the client's).
    unknown_tags: history tags outside the server's vocabulary are an "error" (default for a plain mapping: it was
        typed) or "ignore"d (default for a TagHistory: it was kept); the Recommendation names them.
    fallback: "history" answers with the user's own most frequent tags, marked, when the server cannot answer in time.
    request_id: shows in Triton's log and in errors; 1 to 128 printable ASCII characters (default: a random one).
    headers: gRPC metadata, beside the client's.
    """

    deadline_s: float | None
    unknown_tags: Literal["error", "ignore"] | None
    fallback: Literal["history"] | None
    request_id: str | None
    headers: Mapping[str, str] | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """Options with their defaults filled in, and k. Raises InvalidRequest."""

    k: int
    deadline_s: float
    unknown_tags: Literal["error", "ignore"] | None = None
    fallback: Literal["history"] | None = None
    request_id: str | None = None
    headers: Mapping[str, str] | None = None
    id: str = field(init=False)
    metadata: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Check all that needs no server."""
        if not isinstance(self.k, int) or isinstance(self.k, bool) or self.k < 1:
            raise InvalidRequest(f"k is {self.k!r}: expected a whole number of 1 or more")
        check_deadline(self.deadline_s)
        if self.unknown_tags not in (None, "error", "ignore"):
            raise InvalidRequest(f'unknown_tags is {self.unknown_tags!r}: expected "error" or "ignore"')
        if self.fallback not in (None, "history"):
            raise InvalidRequest(f'fallback is {self.fallback!r}: expected "history", or None for an error instead')
        object.__setattr__(self, "id", os.urandom(16).hex() if self.request_id is None else _checked(self.request_id))
        object.__setattr__(self, "metadata", check_headers(self.headers) if self.headers else {})


def check_deadline(deadline_s: float) -> None:
    """Raise InvalidRequest unless these are seconds that a call may take."""
    number = isinstance(deadline_s, int | float) and not isinstance(deadline_s, bool)
    if not number or not math.isfinite(deadline_s) or deadline_s <= 0:
        raise InvalidRequest(f"deadline_s is {deadline_s!r}: expected seconds above zero")


def _checked(request_id: object) -> str:
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest(f"request_id {request_id!r}: expected 1 to 128 printable ASCII characters without spaces")
    return request_id
