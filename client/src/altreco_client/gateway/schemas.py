"""The JSON of requests and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LONGEST_S = 60.0
"""Longest X-Request-Timeout."""


class TagQuery(BaseModel):
    """The query of a request for tags."""

    model_config = ConfigDict(extra="forbid")

    k: Annotated[int, Field(description="Number of tags.", ge=1)] = 5
    history: Annotated[str | None, Field(description='The user\'s tags as JSON, such as {"sea": 3}.')] = None
    unknown_tags: Annotated[
        Literal["ignore", "error"], Field(description="What to do with tags that the model does not know.")
    ] = "ignore"
    fallback: Annotated[
        Literal["history"] | None, Field(description="Answer with the user's own tags if Triton cannot.")
    ] = None


class TagHeaders(BaseModel):
    """The headers of a request for tags."""

    user: Annotated[str | None, Field(alias="x-user", description="Whose stored history to use; UTF-8.")] = None
    timeout: Annotated[
        float | None,
        Field(
            alias="x-request-timeout", gt=0, le=LONGEST_S, description="Seconds for the answer, once the body is here."
        ),
    ] = None
    id: Annotated[
        str | None, Field(alias="x-request-id", description="For logs and the answer; random by default.")
    ] = None


class TagRequest(BaseModel):
    """A picture with a history, for histories that are too long for a query."""

    model_config = ConfigDict(val_json_bytes="base64", extra="forbid")

    image: Annotated[bytes, Field(description="The picture's file in base64.", json_schema_extra={"format": "byte"})]
    history: Annotated[dict[str, float] | None, Field(description="How often the user has used each tag.")] = None
    k: Annotated[int | None, Field(description="Number of tags; before the query's.", ge=1)] = None


class SuggestedTag(BaseModel):
    """A tag and its score, the model's probability."""

    name: str
    score: float


class TagAnswer(BaseModel):
    """Tags, best first."""

    tags: list[SuggestedTag]
    release: Annotated[str | None, Field(description="The release that answered; null in a fallback.")]
    unknown: Annotated[list[str], Field(description="Tags of the history that the model does not know.")]
    fallback: Annotated[str | None, Field(description="Why the tags are the user's own, and not the model's.")]


class Tags(BaseModel):
    """The tags that the model knows."""

    tags: list[str]


class Acceptance(BaseModel):
    """The tags of an answer, and those that the user saved."""

    model_config = ConfigDict(extra="forbid")

    release: Annotated[str | None, Field(description="The answer's `release`.", pattern="^[0-9]{1,19}$")]
    suggested: Annotated[list[str], Field(description="The answer's tags, best first.", min_length=1, max_length=1_000)]
    accepted: Annotated[list[str], Field(description="All tags that the user saved.", max_length=1_000)]


class Problem(BaseModel):
    """What went wrong."""

    error: Annotated[str, Field(description="The kind, such as InvalidImage.")]
    detail: Annotated[str, Field(description="What was wrong and what to do, on one line.")]
    request_id: str


class Health(BaseModel):
    """Whether Triton has loaded the model."""

    ready: bool
