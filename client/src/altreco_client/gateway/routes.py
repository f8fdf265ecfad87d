"""The gateway's routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import prometheus_client
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..aio import AsyncTagRecommender
from ..call.observe import accepted
from ..errors import DeadlineExceeded, InvalidHistory, InvalidRequest
from ..history import TagHistory
from ..results import Recommendation, Tag
from .limits import Room
from .problems import RESPONSES, in_http
from .schemas import Acceptance, Health, SuggestedTag, TagAnswer, TagRequest, Tags

LONGEST_S = 60.0
"""Longest X-Request-Timeout."""
HEALTH_S = 2.0
"""Longest question whether Triton is ready."""
GRACE_S = 0.5
"""How much later than the client's deadline a request ends that still waits for a thread."""
MOST_RELEASES = 100
"""Releases that `POST /v1/accepted` tells apart, so that callers cannot make series without end."""
HISTORY = TypeAdapter(dict[str, float])

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Gateway:
    """What all requests share. `users` gives a user's history for `users[user]`; None: no user is known."""

    recommender: AsyncTagRecommender
    users: Any
    deadline_s: float
    room: Room
    readers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(10, "histories"))
    releases: set[str] = field(default_factory=set)

    async def history(self, user: str) -> TagHistory:
        """Read the user's history. Raises InvalidRequest, HistoriesUnavailable."""
        if self.users is None:
            raise InvalidRequest("X-User needs a gateway with --store; or pass the history itself")
        try:
            name = user.encode("latin-1").decode()  # the server takes headers for Latin-1
        except UnicodeDecodeError as error:
            raise InvalidRequest("X-User: expected UTF-8") from error
        history: TagHistory = await asyncio.get_running_loop().run_in_executor(
            self.readers, self.users.__getitem__, name
        )
        return history

    def counted(self, release: str | None) -> str | None:
        """The release to count under: "other" once there are too many."""
        if release is None or release in self.releases:
            return release
        if len(self.releases) >= MOST_RELEASES:
            return "other"
        self.releases.add(release)
        return release


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _body(request: Request) -> AsyncIterator[bytes]:
    async with _gateway(request).room.body(request) as body:
        yield body


Serving = Annotated[Gateway, Depends(_gateway)]
Body = Annotated[bytes, Depends(_body)]


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: RESPONSES[status] for status in statuses}


def _bodies(model: type[BaseModel], **others: Mapping[str, str]) -> dict[str, Any]:
    """The body of a route that reads it itself, for the OpenAPI document."""
    schemas = {**others, "application/json": model.model_json_schema()}
    return {"requestBody": {"required": True, "content": {kind: {"schema": each} for kind, each in schemas.items()}}}


router = APIRouter()


@router.post(
    "/v1/tags",
    responses=dict(RESPONSES),
    openapi_extra=_bodies(TagRequest, **{"image/*": {"type": "string", "format": "binary"}}),
)
async def suggest_tags(
    request: Request,
    gateway: Serving,
    body: Body,
    k: Annotated[int, Query(ge=1, description="Number of tags.")] = 5,
    history: Annotated[str | None, Query(description='The user\'s tags as JSON, such as {"sea": 3}.')] = None,
    unknown_tags: Annotated[
        Literal["ignore", "error"], Query(description="What to do with tags that the model does not know.")
    ] = "ignore",
    fallback: Annotated[
        Literal["history"] | None, Query(description="Answer with the user's own tags if Triton cannot.")
    ] = None,
    x_user: Annotated[str | None, Header(description="Whose stored history to use; UTF-8.")] = None,
    x_request_timeout: Annotated[
        float | None, Header(gt=0, le=LONGEST_S, description="Seconds for the answer, once the body is here.")
    ] = None,
    x_request_id: Annotated[str | None, Header(description="For logs and the answer; random by default.")] = None,
) -> TagAnswer:
    """Suggest tags for the picture in the body."""
    seconds = x_request_timeout or gateway.deadline_s
    end = time.monotonic() + seconds
    given = _request(request, body)
    if sum(each is not None for each in (given.history, history, x_user)) > 1:
        raise InvalidRequest("the history is given more than once: expected one of body, query and X-User")
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            known: Mapping[str, float] | None = given.history
            if history is not None:
                known = _parsed_history(history)
            elif x_user is not None:
                known = await gateway.history(x_user)
            answer = await gateway.recommender.recommend(
                given.image,
                known,
                given.k or k,
                deadline_s=max(end - time.monotonic(), 0.001),
                unknown_tags=unknown_tags,
                fallback=fallback,
                request_id=request.state.request_id,
            )
    except TimeoutError as error:
        if isinstance(error, DeadlineExceeded):
            raise
        raise HTTPException(504, f"no answer within {seconds:g} s: pass a longer X-Request-Timeout") from error
    return TagAnswer(
        tags=[SuggestedTag(name=tag.name, score=tag.score) for tag in answer.tags],
        release=answer.model_version,
        unknown=list(answer.unknown_tags),
        fallback=None if answer.fallback is None else in_http(answer.fallback),
    )


@router.post(
    "/v1/accepted", status_code=204, responses=_responses(408, 413, 422, 429), openapi_extra=_bodies(Acceptance)
)
async def count_accepted(gateway: Serving, body: Body) -> None:
    """Count which suggested tags a user saved, by release and rank, in /metrics."""
    given = _parsed(Acceptance, body)
    suggested = tuple(Tag(name, 0.0) for name in given.suggested)
    accepted(Recommendation(suggested, gateway.counted(given.release)), given.accepted)


@router.get("/v1/vocabulary", responses=_responses(429, 502, 503, 504))
async def list_vocabulary(gateway: Serving) -> Tags:
    """List the tags that the model knows."""
    return Tags(tags=list((await gateway.recommender.vocabulary).tags))


@router.get("/healthz", responses={503: {"model": Health, "description": "Triton is not ready."}})
async def tell_health(gateway: Serving, response: Response) -> Health:
    """Tell whether Triton has loaded the model."""
    try:
        async with asyncio.timeout(HEALTH_S):
            ready = await gateway.recommender.ready()
    except TimeoutError:
        ready = False
    response.status_code = 200 if ready else 503
    return Health(ready=ready)


@router.get("/metrics", include_in_schema=False)
def show_metrics() -> Response:
    """The process's metrics in Prometheus' format."""
    return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


def _request(request: Request, body: bytes) -> TagRequest:
    """The request in a body that is JSON or a picture."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _parsed(TagRequest, body)
    if kind == "multipart/form-data":
        raise HTTPException(415, "a form: send the picture itself, as curl --data-binary @photo.jpg does")
    return TagRequest.model_construct(image=body)


def _parsed(model: type[M], body: bytes) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None


def _parsed_history(text: str) -> dict[str, float]:
    try:
        return HISTORY.validate_json(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise InvalidHistory(f'history in the query: {reason}; expected JSON such as {{"sea": 3}}') from None
