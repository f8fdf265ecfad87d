"""The gateway's routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar

import prometheus_client
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..aio import AsyncTagRecommender
from ..call.observe import accepted
from ..errors import DeadlineExceeded, HistoriesUnavailable, InvalidHistory, InvalidRequest
from ..history import TagHistory
from ..results import Recommendation, Tag
from .limits import Room
from .problems import RESPONSES, in_http
from .schemas import Acceptance, Health, SuggestedTag, TagAnswer, TagHeaders, TagQuery, TagRequest, Tags

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

    async def history(self, user: str, seconds: float) -> TagHistory:
        """Read the user's history. Raises InvalidRequest, and HistoriesUnavailable, also if it takes longer."""
        if self.users is None:
            raise InvalidRequest("X-User needs a gateway with --store; or pass the history itself")
        try:
            name = user.encode("latin-1").decode()  # the server takes headers for Latin-1
        except UnicodeDecodeError as error:
            raise InvalidRequest("X-User: expected UTF-8") from error
        read = asyncio.get_running_loop().run_in_executor(self.readers, self.users.__getitem__, name)
        try:
            history: TagHistory = await asyncio.wait_for(read, seconds)
        except TimeoutError as error:
            raise HistoriesUnavailable(f"the database did not answer within {seconds:g} s") from error
        return history

    def counted(self, release: str | None) -> str | None:
        """The release to count under: "other" once there are too many."""
        if release is None or release in self.releases:
            return release
        if len(self.releases) >= MOST_RELEASES:
            return "other"
        self.releases.add(release)
        return release


async def _gateway(request: Request) -> Gateway:  # a plain function would run in a thread
    gateway: Gateway = request.app.state.gateway
    return gateway


Serving = Annotated[Gateway, Depends(_gateway)]


async def _body(request: Request, gateway: Serving) -> AsyncIterator[bytes]:
    async with gateway.room.body(request) as body:
        yield body


Body = Annotated[bytes, Depends(_body)]


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: RESPONSES[status] for status in statuses}


def _bodies(model: type[BaseModel], **others: Mapping[str, str]) -> dict[str, Any]:
    """The body of a route that reads it itself, for the OpenAPI document."""
    schemas = {**others, "application/json": model.model_json_schema()}
    return {"requestBody": {"required": True, "content": {kind: {"schema": each} for kind, each in schemas.items()}}}


def _parameters(**models: type[BaseModel]) -> dict[str, Any]:
    """The query and the headers of a route that reads them itself, for the OpenAPI document."""
    parameters = [
        {"name": name, "in": place, "required": False, "schema": schema, "description": schema["description"]}
        for place, model in models.items()
        for name, schema in model.model_json_schema()["properties"].items()
    ]
    for each in parameters:
        if each["schema"]["default"] is None:
            del each["schema"]["default"]
    return {"parameters": parameters}


router = APIRouter()


@router.post(
    "/v1/tags",
    response_model=TagAnswer,
    responses=dict(RESPONSES),
    openapi_extra=_parameters(query=TagQuery, header=TagHeaders)
    | _bodies(TagRequest, **{"image/*": {"type": "string", "format": "binary"}}),
)
async def suggest_tags(request: Request) -> Response:
    """Suggest tags for the picture in the body."""
    # FastAPI's own reading of these seven parameters took a fifth of the time around a request.
    query = _checked("query", partial(TagQuery.model_validate, dict(request.query_params)))
    headers = _checked("header", partial(TagHeaders.model_validate, dict(request.headers)))
    gateway = await _gateway(request)
    async with gateway.room.body(request) as body:
        answer = await _recommend(gateway, query, headers, _request(request, body), request.state.request_id)
    found = TagAnswer(
        tags=[SuggestedTag(name=tag.name, score=tag.score) for tag in answer.tags],
        release=answer.model_version,
        unknown=list(answer.unknown_tags),
        fallback=None if answer.fallback is None else in_http(answer.fallback),
    )
    return Response(found.model_dump_json(), media_type="application/json")  # FastAPI would check it a second time


async def _recommend(
    gateway: Gateway, query: TagQuery, headers: TagHeaders, given: TagRequest, request_id: str
) -> Recommendation:
    seconds = headers.timeout or gateway.deadline_s
    end = time.monotonic() + seconds
    if sum(each is not None for each in (given.history, query.history, headers.user)) > 1:
        raise InvalidRequest("the history is given more than once: expected one of body, query and X-User")
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            known: Mapping[str, float] | None = given.history
            if query.history is not None:
                known = _parsed_history(query.history)
            elif headers.user is not None:
                known = await gateway.history(headers.user, seconds / 2)  # so that time is left to ask Triton
            return await gateway.recommender.recommend(
                given.image,
                known,
                given.k or query.k,
                deadline_s=max(end - time.monotonic(), 0.001),
                unknown_tags=query.unknown_tags,
                fallback=query.fallback,
                request_id=request_id,
            )
    except TimeoutError as error:
        if isinstance(error, DeadlineExceeded):
            raise
        raise HTTPException(504, f"no answer within {seconds:g} s: pass a longer X-Request-Timeout") from error


@router.post(
    "/v1/accepted", status_code=204, responses=_responses(408, 413, 422, 429), openapi_extra=_bodies(Acceptance)
)
async def count_accepted(gateway: Serving, body: Body) -> None:
    """Count which suggested tags a user saved, by release and rank, in /metrics."""
    given = _checked("body", partial(Acceptance.model_validate_json, body))
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
        return _checked("body", partial(TagRequest.model_validate_json, body))
    if kind == "multipart/form-data":
        raise HTTPException(415, "a form: send the picture itself, as curl --data-binary @photo.jpg does")
    if body[:64].lstrip().startswith(b"{"):
        raise HTTPException(415, "JSON that does not say so: send Content-Type: application/json")
    return TagRequest.model_construct(image=body)


def _checked(place: str, read: Callable[[], M]) -> M:
    """Read a part of the request. Raises RequestValidationError."""
    try:
        return read()
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": (place, *each["loc"])} for each in error.errors()]) from None


def _parsed_history(text: str) -> dict[str, float]:
    try:
        return HISTORY.validate_json(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise InvalidHistory(f'history in the query: {reason}; expected JSON such as {{"sea": 3}}') from None
