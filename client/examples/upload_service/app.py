"""An upload service with altreco-client that suggests tags while a user picks them, from the user's history.

    uvicorn app:app --app-dir client/examples/upload_service --port 8080

ALTRECO_URL is the address of Triton's gRPC endpoint (default: localhost:8001), and UPLOAD_HOSTS the names under which
browsers may reach this service, with commas between (default: localhost,127.0.0.1). This is an example: histories and
pictures are only in the memory of one process.
"""

import asyncio
import logging
import os
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from altreco_client import (
    AsyncTagRecommender,
    InvalidHistory,
    InvalidImage,
    InvalidRequest,
    PreparedImage,
    Recommendation,
    ServerError,
    TagHistory,
    explain,
    prepare,
)
from fastapi import Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, StringConstraints

LOG = logging.getLogger("uvicorn.error")
HOSTS = os.environ.get("UPLOAD_HOSTS", "localhost,127.0.0.1").split(",")
PAGE = Path(__file__).parent / "page"
USERS = ("Ana", "Ben", "Chloe")
MAX_UPLOAD_BYTES = 16 * 1024**2
MAX_PIXELS = 32_000_000
"""Most pixels of an upload; decoding one takes at most 256 MB."""
DECODED_AT_ONCE = 2
MAX_PICTURES = 48
"""Most pictures held between upload and save, 150 KB each; the least recently used one is dropped first."""
MAX_SAVED = 1000
"""Most saved pictures whose ids are known, so that a save whose answer was lost can be sent again."""
SUGGESTIONS = 6
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
NO_PHOTO = "This file is not a photo (JPEG, PNG, WebP, GIF, BMP or TIFF), or it is damaged or too large."

TagName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]


class Choice(BaseModel):
    """The tags that a user has picked for a picture."""

    user: str
    tags: list[TagName] = Field(max_length=32)


class SuggestedTag(BaseModel):
    """A tag with the model's score, 0 to 1. `photo`: the score for the photo without a history, if it is known."""

    name: str
    score: float
    photo: float | None = None


class Suggestions(BaseModel):
    """Tags that are not picked yet, best first. `fallback`: they are the user's own, not the model's."""

    tags: list[SuggestedTag]
    release: str | None
    fallback: bool


@dataclass(frozen=True)
class Service:
    """The connection to Triton, the users' histories, and the pictures that are being tagged."""

    recommender: AsyncTagRecommender
    histories: dict[str, TagHistory] = field(default_factory=lambda: {user: TagHistory() for user in USERS})
    pictures: OrderedDict[str, PreparedImage] = field(default_factory=OrderedDict)
    saved: OrderedDict[str, None] = field(default_factory=OrderedDict)
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DECODED_AT_ONCE))

    def keep(self, picture: PreparedImage) -> str:
        """Hold the picture and return its id."""
        name = uuid.uuid4().hex
        self.pictures[name] = picture
        if len(self.pictures) > MAX_PICTURES:
            self.pictures.popitem(last=False)
        return name

    def picture(self, name: str) -> PreparedImage:
        """Return the picture; raises 404."""
        if name not in self.pictures:
            raise HTTPException(404, "This photo is already saved, or waited too long.")
        self.pictures.move_to_end(name)
        return self.pictures[name]

    def history(self, user: str) -> TagHistory:
        """Return the user's history; raises 404."""
        if user not in self.histories:
            raise HTTPException(404, f"There is no user {user!r}: expected one of {', '.join(USERS)}.")
        return self.histories[user]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold one recommender for the app's lifetime; all requests use its connection."""
    async with AsyncTagRecommender(os.environ.get("ALTRECO_URL", "localhost:8001")) as recommender:
        app.state.service = Service(recommender)
        yield


# Without FastAPI's pages of documentation, whose scripts come from another site.
app = FastAPI(title="Upload service", lifespan=lifespan, max_body_size=MAX_UPLOAD_BYTES, openapi_url=None)
# Other names would let another site's page reach this service by DNS rebinding.
app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)


@app.middleware("http")
async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what a page of another site sends, and tell browsers to run nothing from elsewhere."""
    origin = request.headers.get("Origin")
    if request.method != "GET" and origin and urlsplit(origin).netloc != request.headers.get("Host"):
        return JSONResponse({"detail": "Requests of other sites' pages are refused."}, 403)
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


def _service(request: Request) -> Service:
    return request.app.state.service


Serving = Annotated[Service, Depends(_service)]


@app.exception_handler(RequestValidationError)
async def misunderstood(_: Request, error: RequestValidationError) -> JSONResponse:
    """Answer with the errors in a request's fields, without their values: these may be text that cannot be encoded."""
    reasons = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return JSONResponse({"detail": "; ".join(reasons)}, 422)


@app.exception_handler(InvalidHistory)
async def refuse(_: Request, error: InvalidHistory) -> JSONResponse:
    """Answer with the client's message about a tag. Any other InvalidRequest is a fault of this service: a 500."""
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(ServerError)
async def unavailable(_: Request, error: ServerError) -> JSONResponse:
    """Answer that Triton is unavailable, if the user has no history to fall back to; the log has its address."""
    LOG.warning("no suggestions: %s", error)
    return JSONResponse({"detail": "No suggestions at the moment: the server that makes them does not answer."}, 503)


@app.get("/api/users")
async def users(service: Serving) -> dict[str, dict[str, float]]:
    """Return every user's history, tag -> count."""
    return {user: dict(history) for user, history in service.histories.items()}


@app.get("/api/vocabulary")
async def vocabulary(service: Serving) -> tuple[str, ...]:
    """Return the tags that the model knows."""
    return (await service.recommender.vocabulary).tags


@app.post("/api/pictures", status_code=201)
async def upload(data: Annotated[bytes, Body(media_type="image/*")], service: Serving) -> str:
    """Prepare the image file in the body, and return its id; raises 422."""
    try:
        async with service.decoding:
            return service.keep(await asyncio.to_thread(prepare, data, max_pixels=MAX_PIXELS))
    except InvalidImage as error:
        raise HTTPException(422, NO_PHOTO) from error


@app.post("/api/pictures/{name}/suggestions")
async def suggest(name: str, choice: Choice, service: Serving) -> Suggestions:
    """Suggest more tags from the history and the tags picked so far.

    The page asks again after each tag; the picture's visual encoding is then in Triton's response cache.
    """
    history = service.history(choice.user).add(choice.tags)
    k = SUGGESTIONS + len(choice.tags)
    answer = await service.recommender.recommend(service.picture(name), history, k, fallback="history")
    suggested = await _suggested(answer, service.picture(name), service)
    tags = [tag for tag in suggested if tag.name not in choice.tags][:SUGGESTIONS]
    if answer.fallback and not tags:
        raise answer.fallback
    return Suggestions(
        tags=tags,
        release=answer.model_version,
        fallback=answer.fallback is not None,
    )


async def _suggested(answer: Recommendation, picture: PreparedImage, service: Service) -> list[SuggestedTag]:
    """The tags, each with its score for the photo alone, which a second request without a history tells."""
    photo: dict[str, float] = {}
    if not answer.fallback:
        with suppress(ServerError, InvalidRequest):  # suggestions without reasons are better than none
            every_tag = len(await service.recommender.vocabulary)
            alone = await service.recommender.recommend(picture, None, every_tag)
            photo = {reason.tag.name: reason.picture for reason in explain(answer, alone)}
    return [SuggestedTag(name=tag.name, score=tag.score, photo=photo.get(tag.name)) for tag in answer.tags]


@app.post("/api/pictures/{name}/save")
async def save(name: str, choice: Choice, service: Serving) -> dict[str, float]:
    """Add the picture's tags to the user's history once, and return it. A real service would also store the photo."""
    if name not in service.saved:
        service.picture(name)
        service.histories[choice.user] = service.history(choice.user).add(choice.tags)
        del service.pictures[name]
        service.saved[name] = None
        if len(service.saved) > MAX_SAVED:
            service.saved.popitem(last=False)
    return dict(service.history(choice.user))


app.mount("/", StaticFiles(directory=PAGE, html=True))
