"""An upload service with altreco-client that suggests tags while a user picks them, from the user's history.

    uvicorn app:app --app-dir client/examples/upload_service --port 8080

ALTRECO_URL is the address of Triton's gRPC endpoint (default: localhost:8001), UPLOAD_STORE the URL of the histories'
database (default: sqlite://, in memory), and UPLOAD_HOSTS the names under which browsers may reach this service, with
commas between (default: localhost,127.0.0.1). This is an example: pictures are only in the memory of one process. For
Prometheus, GET /metrics has how many of the suggested tags users saved.
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

from altreco_client import (
    AsyncTagRecommender,
    HistoriesUnavailable,
    InvalidHistory,
    InvalidImage,
    InvalidRequest,
    PreparedImage,
    Recommendation,
    ServerError,
    TagHistory,
    accepted,
    explain,
    prepare,
)
from altreco_client.gateway.browsers import HEADERS, LOOPBACK, from_other_site
from altreco_client.gateway.problems import reasons
from altreco_client.gateway.routes import show_metrics
from altreco_client.gateway.serve import export_metrics
from altreco_client.histories import Histories
from fastapi import Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, StringConstraints

LOG = logging.getLogger("uvicorn.error")
HOSTS = os.environ.get("UPLOAD_HOSTS", ",".join(LOOPBACK)).split(",")
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


@dataclass
class Photo:
    """A picture that is being tagged. `shown` has the first suggestions for each user, before any tag was picked."""

    picture: PreparedImage
    shown: dict[str, Recommendation] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """The connection to Triton, the users' histories, and the pictures that are being tagged."""

    recommender: AsyncTagRecommender
    histories: Histories
    pictures: OrderedDict[str, Photo] = field(default_factory=OrderedDict)
    saved: OrderedDict[str, None] = field(default_factory=OrderedDict)
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DECODED_AT_ONCE))

    def keep(self, picture: PreparedImage) -> str:
        """Hold the picture and return its id."""
        name = uuid.uuid4().hex
        self.pictures[name] = Photo(picture)
        if len(self.pictures) > MAX_PICTURES:
            self.pictures.popitem(last=False)
        return name

    def photo(self, name: str) -> Photo:
        """Return the photo; raises 404."""
        if name not in self.pictures:
            raise HTTPException(404, "This photo is already saved, or waited too long.")
        self.pictures.move_to_end(name)
        return self.pictures[name]

    def user(self, name: str) -> str:
        """Return the user's name; raises 404."""
        if name not in USERS:
            raise HTTPException(404, f"There is no user {name!r}: expected one of {', '.join(USERS)}.")
        return name

    async def history(self, user: str) -> TagHistory:
        """Return the user's history; raises 404."""
        return await asyncio.to_thread(self.histories.__getitem__, self.user(user))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold one recommender and one pool of database connections for the app's lifetime."""
    export_metrics()
    url = os.environ.get("ALTRECO_URL", "localhost:8001")
    with Histories(os.environ.get("UPLOAD_STORE", "sqlite://")) as histories:
        async with AsyncTagRecommender(url, opentelemetry=True) as recommender:
            app.state.service = Service(recommender, histories)
            yield


# Without FastAPI's pages of documentation, whose scripts come from another site.
app = FastAPI(title="Upload service", lifespan=lifespan, max_body_size=MAX_UPLOAD_BYTES, openapi_url=None)
# Other names would let another site's page reach this service by DNS rebinding.
app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)


@app.middleware("http")
async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what a page of another site sends, and tell browsers to run nothing from elsewhere."""
    if from_other_site(request):
        return JSONResponse({"detail": "Requests of other sites' pages are refused."}, 403)
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


def _service(request: Request) -> Service:
    return request.app.state.service


Serving = Annotated[Service, Depends(_service)]


@app.exception_handler(RequestValidationError)
async def misunderstood(_: Request, error: RequestValidationError) -> JSONResponse:
    """Answer with the errors in a request's fields."""
    return JSONResponse({"detail": reasons(error)}, 422)


@app.exception_handler(InvalidHistory)
async def refuse(_: Request, error: InvalidHistory) -> JSONResponse:
    """Answer with the client's message about a tag. Any other InvalidRequest is a fault of this service: a 500."""
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(ServerError)
async def unavailable(_: Request, error: ServerError) -> JSONResponse:
    """Answer that Triton is unavailable, if the user has no history to fall back to; the log has its address."""
    LOG.warning("no suggestions: %s", error)
    return JSONResponse({"detail": "No suggestions at the moment: the server that makes them does not answer."}, 503)


@app.exception_handler(HistoriesUnavailable)
async def not_stored(_: Request, error: HistoriesUnavailable) -> JSONResponse:
    """Answer that the database is unavailable; the log has its address."""
    LOG.warning("no histories: %s", error)
    return JSONResponse({"detail": "Histories cannot be read or saved at the moment."}, 503)


@app.get("/api/users")
async def users(service: Serving) -> dict[str, dict[str, float]]:
    """Return every user's history, tag -> count."""
    histories = await asyncio.to_thread(service.histories.many, USERS)
    return {user: dict(history) for user, history in zip(USERS, histories, strict=True)}


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
    """Suggest more tags from the history and the tags picked so far, or from these alone if the database is away.

    The page asks again after each tag; the picture's visual encoding is then in Triton's response cache.
    """
    photo = service.photo(name)
    try:
        history = await service.history(choice.user)
    except HistoriesUnavailable as error:
        LOG.warning("suggestions without a history: %s", error)
        history = TagHistory()
    history = history.add(choice.tags)
    k = SUGGESTIONS + len(choice.tags)
    answer = await service.recommender.recommend(photo.picture, history, k, fallback="history")
    if not choice.tags:
        photo.shown.setdefault(choice.user, answer)
    suggested = await _suggested(answer, photo.picture, service)
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
    """Count the picture's tags in the user's history, and return it. A real service would also store the photo."""
    if name not in service.saved:
        photo = service.photo(name)
        await asyncio.to_thread(service.histories.save, service.user(choice.user), name, choice.tags)
        if service.pictures.pop(name, None) and choice.user in photo.shown:
            accepted(photo.shown[choice.user], choice.tags)
        service.saved[name] = None
        if len(service.saved) > MAX_SAVED:
            service.saved.popitem(last=False)
    return dict(await service.history(choice.user))


app.get("/metrics")(show_metrics)
app.mount("/", StaticFiles(directory=PAGE, html=True))
