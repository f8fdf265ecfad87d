"""What others may see of a call: a report for metrics, OpenTelemetry's span and histogram, the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import AltrecoError, InvalidRequest
from ..results import Recommendation

if TYPE_CHECKING:
    from opentelemetry.trace import Span

LOGGER = logging.getLogger("altreco_client")


@dataclass(frozen=True, kw_only=True)
class CallReport:
    """How a call went. `method` is the client's, `pictures` and `users` what it was asked for; `duration_s` in seconds;
    `model_version` None and `fallback` True: the answers are the users' own tags; `error`: what was raised.
    """

    method: str
    request_id: str
    pictures: int
    users: int
    duration_s: float
    model_version: str | None
    fallback: bool
    error: BaseException | None


@dataclass
class Observation:
    """A call under way; its flow notes the answers here. `headers` go out with every request of it."""

    answers: tuple[Recommendation, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)


class Telemetry:
    """OpenTelemetry's tracer and meter, of the global providers."""

    def __init__(self, url: str) -> None:
        """Raise InvalidRequest where opentelemetry-api is not installed."""
        try:
            from opentelemetry import metrics, propagate, trace  # noqa: PLC0415 - optional
        except ImportError as error:
            raise InvalidRequest(
                "opentelemetry=True needs OpenTelemetry: pip install 'altreco-client[opentelemetry]'"
            ) from error
        self._trace, self._propagate, self._url = trace, propagate, url
        self._tracer = trace.get_tracer("altreco_client")
        self._duration = metrics.get_meter("altreco_client").create_histogram(
            "altreco.client.call.duration", unit="s", description="Duration of the client's calls"
        )

    def start(self, method: str, request_id: str, headers: dict[str, str]) -> Span:
        """A client span, not made current: a flow may be resumed anywhere. Its context goes into the headers."""
        span = self._tracer.start_span(
            f"altreco.{method}",
            kind=self._trace.SpanKind.CLIENT,
            attributes={"server.address": self._url, "altreco.request_id": request_id},
        )
        self._propagate.inject(headers, context=self._trace.set_span_in_context(span))
        return span

    def end(self, span: Span, report: CallReport) -> None:
        """Attributes, status and the histogram's value."""
        attributes: dict[str, str | int | bool] = {"altreco.method": report.method, "altreco.fallback": report.fallback}
        if report.error is not None:
            attributes["error.type"] = type(report.error).__qualname__
            span.record_exception(report.error)
            span.set_status(self._trace.StatusCode.ERROR, str(report.error))
        self._duration.record(report.duration_s, attributes)
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
    """Report the call when it ends, however it does; what `on_call` itself raises is logged and goes no further."""
    started, observation = time.perf_counter(), Observation()
    span = telemetry.start(method, request_id, observation.headers) if telemetry else None
    error: BaseException | None = None
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
