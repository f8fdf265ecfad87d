"""Errors as HTTP answers: a status, and a `Problem` in the client's words."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..cli.wording import OPTIONS, in_options
from ..errors import (
    AltrecoError,
    DeadlineExceeded,
    HistoriesUnavailable,
    InvalidRequest,
    Overloaded,
    ServerError,
    Unavailable,
)
from ..text import printable
from .browsers import HEADERS
from .schemas import Problem

LOG = logging.getLogger("uvicorn.error")
RETRY_AFTER = {"Retry-After": "1"}
"""Seconds after which an overloaded or missing server may be asked again."""

STATUSES: tuple[tuple[type[AltrecoError], int], ...] = (
    (InvalidRequest, 422),
    (Overloaded, 429),
    (DeadlineExceeded, 504),
    (Unavailable, 503),
    (HistoriesUnavailable, 503),
    (ServerError, 502),
)
"""The status of each of the client's errors. The first match counts."""

NAMES = {403: "OtherSite", 404: "NotFound", 405: "MethodNotAllowed", 408: "BodyTooSlow", 413: "BodyTooLarge"}
NAMES |= {415: "UnsupportedMediaType", 429: "Overloaded", 504: "DeadlineExceeded"}
"""Kinds of the gateway's own errors."""

PHRASES = OPTIONS | {
    'pass unknown_tags="ignore"': "pass unknown_tags=ignore",
    "deadline_s": "X-Request-Timeout",
    "request_id ": "X-Request-Id ",
}
"""Phrases of the client's messages with names from Python, and what HTTP has in their place."""

RESPONSES: Mapping[int | str, dict[str, object]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        408: "The body did not arrive in time.",
        413: "The body is larger than 16 MB.",
        415: "A form, or JSON without its Content-Type.",
        422: "A bad picture, history, option or header.",
        431: "Query and headers are larger than 16 KB.",
        429: "Too much to do: ask again after `Retry-After` seconds.",
        502: "Triton failed, refused the request, or speaks another version of the contract.",
        503: "Triton or the database of the histories does not answer.",
        504: "No answer within `X-Request-Timeout`.",
    }.items()
}


def in_http(error: AltrecoError) -> str:
    """One of the client's messages, in the words of HTTP."""
    return in_options(error, PHRASES)


def problem(
    request: Request, status: int, error: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Make the answer to a request that failed."""
    request_id = getattr(request.state, "request_id", "")
    body = Problem(error=error, detail=printable(detail), request_id=request_id)
    return JSONResponse(body.model_dump(), status, headers=headers)


def _of_client(request: Request, error: AltrecoError) -> JSONResponse:
    """Answer with one of the client's errors."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    if status >= 500:
        LOG.warning("%s: %s", type(error).__name__, error)
    headers = RETRY_AFTER if status in (429, 503) else None
    return problem(request, status, type(error).__name__, in_http(error), headers)


def reasons(error: RequestValidationError) -> str:
    """The errors in a request's fields, without their values: these may be text that cannot be encoded."""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())[:1_000]


def add_handlers(app: FastAPI) -> None:
    """Answer every error with a `Problem`."""

    async def client(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, AltrecoError)
        return _of_client(request, error)

    async def fields(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return problem(request, 422, "InvalidRequest", reasons(error))

    async def own(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind = NAMES.get(error.status_code, "InvalidRequest")
        return problem(request, error.status_code, kind, str(error.detail), error.headers)

    async def unexpected(request: Request, _: Exception) -> JSONResponse:
        headers = {**HEADERS, "X-Request-Id": request.state.request_id}  # it is answered outside of what adds them
        return problem(request, 500, "InternalError", "the gateway failed: look at its log", headers)

    for kind, handler in (
        (AltrecoError, client),
        (RequestValidationError, fields),
        (HTTPException, own),
        (Exception, unexpected),
    ):
        app.add_exception_handler(kind, handler)
