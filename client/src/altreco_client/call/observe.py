"""Reports of calls: to the application's metrics, to OpenTelemetry and to the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from ..checks import checked_tag, iterate
from ..errors import AltrecoError, InvalidRequest
from ..results import Recommendation

if TYPE_CHECKING:
    from opentelemetry.trace import Span

LOGGER = logging.getLogger("altreco_client")

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of a histogram of durations, seconds; OpenTelemetry's own are for milliseconds."""

LAST_RANK = 20
"""Rank that `accepted` counts all later ones under, so that the number of series is bounded."""

FALLBACK = "fallback"
"""Release under which `accepted` counts the answers of a fallback, which no release has given."""


@dataclass(frozen=True, kw_only=True)
class CallReport:
    """What happened in one call.

    `method` is the name of the client's method, `pictures` and `users` are the numbers of images and histories.
    `duration_s` is in seconds. For `waited_s` of them the client had as many requests in flight as `in_flight_limit`
    allows (`Channel.max_in_flight`; None: no limit). With `fallback`, the answers are the users' own tags, and
    `model_version` is None. `error` is the exception that the call raised.
    """

    method: str
    request_id: str
    pictures: int
    users: int
    duration_s: float
    waited_s: float
    in_flight_limit: int | None
    model_version: str | None
    fallback: bool
    error: BaseException | None


@dataclass
class Observation:
    """A call in progress. Its flow stores answers, waits and limit here, and sends `headers` with every request."""

    answers: tuple[Recommendation, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    waited_s: float = 0.0
    in_flight_limit: int | None = None


def accepted(answer: Recommendation, tags: Iterable[str]) -> None:
    """Count the tags of an answer, and those of them that the user took, in OpenTelemetry's metrics.

    Call it once for an answer that a user has seen, with all tags that they saved; others than the suggested ones do
    not count. The counters `altreco.suggested` and `altreco.accepted` have the attributes `release`, which is the
    answer's `model_version` or "fallback", and `rank`, from 1 for the best tag to 20 for the twentieth and all after
    it. It needs `pip install 'altreco-client[opentelemetry]'`. Raises InvalidRequest without it, and InvalidHistory for
    what is no list of tags.
    """
    taken = {checked_tag(tag) for tag in iterate(tags, "tags", "the tags that the user saved")}
    suggested, of_them_accepted = _acceptance()
    for rank, tag in enumerate(answer.tags, start=1):
        attributes = {"release": answer.model_version or FALLBACK, "rank": min(rank, LAST_RANK)}
        suggested.add(1, attributes)
        of_them_accepted.add(int(tag.name in taken), attributes)  # a rank that nobody takes is 0, and not missing


@cache
def _acceptance() -> tuple[Any, Any]:
    metrics, _, _ = _opentelemetry("accepted(...)")
    meter = metrics.get_meter("altreco_client")
    return (
        meter.create_counter("altreco.suggested", unit="{tag}", description="Tags suggested to users"),
        meter.create_counter("altreco.accepted", unit="{tag}", description="Suggested tags that users took"),
    )


def _opentelemetry(user: str) -> tuple[Any, Any, Any]:
    """Import OpenTelemetry's metrics, propagate and trace; raises InvalidRequest, which says who needs them."""
    try:
        from opentelemetry import metrics, propagate, trace  # noqa: PLC0415 - optional
    except ImportError as error:
        raise InvalidRequest(f"{user} needs OpenTelemetry: pip install 'altreco-client[opentelemetry]'") from error
    return metrics, propagate, trace


class Telemetry:
    """OpenTelemetry's tracer and meter, from the global providers."""

    def __init__(self, url: str) -> None:
        """Raise InvalidRequest if opentelemetry-api is not installed."""
        metrics, propagate, trace = _opentelemetry("opentelemetry=True")
        self._trace, self._propagate, self._url = trace, propagate, url
        self._tracer = trace.get_tracer("altreco_client")
        self._duration = metrics.get_meter("altreco_client").create_histogram(
            "altreco.client.call.duration",
            unit="s",
            description="Duration of the client's calls",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )
        self._waited = metrics.get_meter("altreco_client").create_histogram(
            "altreco.client.call.waited",
            unit="s",
            description="Wait for the client's limit of requests in flight",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )
        self._limit = metrics.get_meter("altreco_client").create_gauge(
            "altreco.client.in_flight.limit", unit="{request}", description="Most requests in flight"
        )

    def start(self, method: str, request_id: str, headers: dict[str, str]) -> Span:
        """Start a client span and add its context to the headers."""
        span: Span = self._tracer.start_span(
            f"altreco.{method}",
            kind=self._trace.SpanKind.CLIENT,
            attributes={"server.address": self._url, "altreco.request_id": request_id},
        )
        self._propagate.inject(headers, context=self._trace.set_span_in_context(span))
        return span

    def current(self, span: Span) -> AbstractContextManager[object]:
        """Make the span the current one, for other instrumentation and for the log: a flow stays in one context."""
        scope: AbstractContextManager[object] = self._trace.use_span(
            span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        )
        return scope

    def end(self, span: Span, report: CallReport) -> None:
        """Set the span's attributes and status, end it, and record the duration."""
        attributes: dict[str, str | int | bool] = {"altreco.method": report.method, "altreco.fallback": report.fallback}
        if report.error is not None:
            attributes["error.type"] = type(report.error).__qualname__
            span.record_exception(report.error)
            span.set_status(self._trace.StatusCode.ERROR, str(report.error))
        self._duration.record(report.duration_s, attributes)
        self._waited.record(report.waited_s)
        if report.in_flight_limit is not None:
            self._limit.set(report.in_flight_limit, {"server.address": self._url})
        span.set_attributes(
            {
                **attributes,
                "altreco.pictures": report.pictures,
                "altreco.users": report.users,
                "altreco.model_version": report.model_version or "",
            }
        )
        span.end()


@contextmanager
def observed(
    telemetry: Telemetry | None,
    on_call: Callable[[CallReport], None] | None,
    *,
    method: str,
    request_id: str,
    pictures: int,
    users: int,
) -> Iterator[Observation]:
    """Report the call when it ends, with or without an error. An exception from `on_call` is only logged."""
    started, observation = time.perf_counter(), Observation()
    span = telemetry.start(method, request_id, observation.headers) if telemetry else None
    error: BaseException | None = None
    with telemetry.current(span) if telemetry and span else nullcontext():
        try:
            yield observation
        except BaseException as raised:
            error = raised
            raise
        finally:
            if on_call or telemetry or LOGGER.isEnabledFor(logging.DEBUG):
                first = observation.answers[0] if observation.answers else None
                report = CallReport(
                    method=method,
                    request_id=request_id,
                    pictures=pictures,
                    users=users,
                    duration_s=time.perf_counter() - started,
                    waited_s=observation.waited_s,
                    in_flight_limit=observation.in_flight_limit,
                    model_version=first.model_version if first else None,
                    fallback=first is not None and first.fallback is not None,
                    error=error,
                )
                _report(report, on_call)
                if telemetry and span:
                    telemetry.end(span, report)


def _report(report: CallReport, on_call: Callable[[CallReport], None] | None) -> None:
    if isinstance(report.error, AltrecoError):
        LOGGER.debug("%s failed after %.4f s: %s", report.method, report.duration_s, report.error)
    elif report.error is None:
        LOGGER.debug("%s %s took %.4f s", report.method, report.request_id, report.duration_s)
    if on_call:
        try:
            on_call(report)
        except Exception:
            LOGGER.exception("on_call raised for request %s", report.request_id)
