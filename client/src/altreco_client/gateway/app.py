"""The gateway as an application: its routes, and what happens around each request."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse
from opentelemetry import context, propagate, trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..aio import AsyncTagRecommender
from ..settings import REQUEST_ID
from .browsers import HEADERS, LOOPBACK, from_other_site
from .limits import HEAD_BYTES, Limits, Room
from .problems import add_handlers, problem
from .routes import Gateway, router

PAGE = Path(__file__).parent / "page"
DESCRIPTION = "Send a picture and a history, get tags."
OF_ANSWERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


def create_app(
    recommender: AsyncTagRecommender,
    users: Any = None,
    *,
    limits: Limits | None = None,
    deadline_s: float = 5.0,
    hosts: tuple[str, ...] = LOOPBACK,
) -> FastAPI:
    """Make the application, which closes the recommender at its end.

    - `users`: `Histories`, or another mapping of users to their TagHistory, for the header X-User.
    - `deadline_s`: seconds for a request without X-Request-Timeout.
    - `hosts`: names under which it may be reached; ("*",) for all.
    """
    limits = limits or Limits()
    gateway = Gateway(recommender, users, deadline_s, Room(limits))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The client decodes in asyncio's own threads: as few as these bound its memory.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(limits.decoded_at_once, "decoding"))
        async with recommender:
            yield
        gateway.readers.shutdown(wait=False)

    app = FastAPI(
        title="altreco gateway",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from another site
        redoc_url=None,
    )
    app.state.gateway = gateway
    app.add_middleware(Around)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    add_handlers(app)
    app.include_router(router)
    for file in ("index.html", "page.js", "page.css"):
        app.add_route(f"/{file.removeprefix('index.html')}", partial(_file, PAGE / file), include_in_schema=False)
    return app


async def _file(path: Path, _: Request) -> Response:
    return FileResponse(path)


@dataclass(frozen=True)
class Around:
    """Name each request, refuse some at once, and continue its caller's trace.

    Starlette's `app.middleware("http")` would cost each request another task and a stream.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("X-Request-Id")
        fits = given is None or REQUEST_ID.fullmatch(given)
        name = request.state.request_id = given if given and fits else os.urandom(16).hex()
        more = [*OF_ANSWERS, (b"x-request-id", name.encode())]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *more]
            await send(message)

        if refusal := _refusal(request, named=bool(fits)):
            await problem(request, *refusal)(scope, receive, answer)
            return
        with _callers_trace(request):
            await self.app(scope, receive, answer)


def _refusal(request: Request, *, named: bool) -> tuple[int, str, str] | None:
    """Status, kind and words for a request that is refused at once."""
    scope = request.scope
    size = len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"])
    if from_other_site(request):
        return 403, "OtherSite", "requests of other sites' pages are refused"
    if size > HEAD_BYTES:
        words = f"the query and the headers are larger than {HEAD_BYTES:,} bytes: send a long history in the body"
        return 431, "HeadTooLarge", words
    if not named:
        return 422, "InvalidRequest", "X-Request-Id: expected 1 to 128 printable ASCII characters without spaces"
    return None


@contextmanager
def _callers_trace(request: Request) -> Iterator[None]:
    """Hand the caller's trace on to Triton. If traces are recorded, FastAPI has begun a span of it already."""
    if trace.get_current_span().get_span_context().is_valid:
        yield
        return
    token = context.attach(propagate.extract(request.headers))
    try:
        yield
    finally:
        context.detach(token)
