"""An upload service with altreco-client that suggests tags while a user picks them, from the user's history.

    uvicorn app:app --app-dir client/examples/upload_service --port 8080

ALTRECO_URL is the address of Triton's gRPC endpoint (default: localhost:8001). This is an example: histories and
pictures are only in the memory of one process.
"""

import asyncio
import os
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from altreco_client import (
    AsyncTagRecommender,
    InvalidImage,
    InvalidRequest,
    PreparedImage,
    Recommendation,
    ServerError,
    TagHistory,
    explain,
    prepare,
)
from fastapi import Body, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, StringConstraints

PAGE = Path(__file__).parent / "page"
USERS = ("Ana", "Ben", "Chloe")
MAX_UPLOAD_BYTES = 16 * 1024**2
MAX_PICTURES = 48
"""Most pictures held between upload and save, 150 KB each; the least recently used one is dropped first."""
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
    """Tags that are not picked yet, best first. `fallback` is the error if they are the user's own, not the model's."""

    tags: list[SuggestedTag]
    release: str | None
    fallback: str | None


@dataclass(frozen=True)
class Service:
    """The connection to Triton, the users' histories, and the pictures that are being tagged."""

    recommender: AsyncTagRecommender
    histories: dict[str, TagHistory] = field(default_factory=lambda: {user: TagHistory() for user in USERS})
    pictures: OrderedDict[str, PreparedImage] = field(default_factory=OrderedDict)

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
            raise HTTPException(404, "This photo is already saved, or waited too long: choose it again.")
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


app = FastAPI(title="Upload service", lifespan=lifespan, max_body_size=MAX_UPLOAD_BYTES)


def _service(request: Request) -> Service:
    return request.app.state.service


Serving = Annotated[Service, Depends(_service)]


@app.exception_handler(RequestValidationError)
async def misunderstood(_: Request, error: RequestValidationError) -> JSONResponse:
    """Answer with the errors in a request's fields, without their values: these may be text that cannot be encoded."""
    reasons = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return JSONResponse({"detail": "; ".join(reasons)}, 422)


@app.exception_handler(InvalidRequest)
async def refuse(_: Request, error: InvalidRequest) -> JSONResponse:
    """Answer with the client's message about a tag."""
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(ServerError)
async def unavailable(_: Request, error: ServerError) -> JSONResponse:
    """Answer that Triton is unavailable, if the user has no history to fall back to."""
    return JSONResponse({"detail": f"No suggestions at the moment: {error}"}, 503)


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
        return service.keep(await asyncio.to_thread(prepare, data))
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
        fallback=str(answer.fallback) if answer.fallback else None,
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
    service.picture(name)
    service.histories[choice.user] = history = service.history(choice.user).add(choice.tags)
    del service.pictures[name]
    return dict(history)


app.mount("/", StaticFiles(directory=PAGE, html=True))
