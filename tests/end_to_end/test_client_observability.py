"""What others see of a call: spans, a histogram, a report, and the request id in Triton's log."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from altreco_client import (
    AsyncTagRecommender,
    CallReport,
    InvalidHistory,
    InvalidRequest,
    PreparedImage,
    Recommendation,
    Tag,
    TagRecommender,
    Unavailable,
    accepted,
)
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.end_to_end.conftest import Served
from tests.servers import serving

PICTURE = PreparedImage(np.full((224, 224, 3), 77, dtype=np.uint8))


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    """OpenTelemetry's providers are the process's: set once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


def test_a_call_is_a_client_span_with_a_duration(
    served: Served, spans: InMemorySpanExporter, reader: InMemoryMetricReader
) -> None:
    with TagRecommender(served.server.grpc_url, deadline_s=30, opentelemetry=True) as recommender:
        with trace.get_tracer("service").start_as_current_span("upload") as parent:
            recommender.recommend(PICTURE, {"tag-1": 1}, request_id="seen")
        with pytest.raises(InvalidRequest):
            recommender.recommend(PICTURE, {}, k=9999)
    answered, _, failed = spans.get_finished_spans()
    assert answered.name == "altreco.recommend"
    assert answered.kind is trace.SpanKind.CLIENT
    assert answered.parent is not None
    assert answered.parent.span_id == parent.get_span_context().span_id
    assert answered.attributes is not None
    assert answered.attributes["altreco.request_id"] == "seen"
    assert answered.attributes["altreco.model_version"] == "1"
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "InvalidRequest"

    data = reader.get_metrics_data()
    assert data is not None
    measured = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    durations = measured["altreco.client.call.duration"].data.data_points
    assert sum(point.count for point in durations) == 2  # type: ignore[union-attr]


def counted(reader: InMemoryMetricReader, name: str, release: str) -> list[float]:
    """The counter's values for a release, by rank from 1."""
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = (metric for metric in data.resource_metrics[0].scope_metrics[0].metrics if metric.name == name)
    by_rank = {
        point.attributes["rank"]: point.value
        for point in metric.data.data_points
        if point.attributes["release"] == release
    }
    return [by_rank[rank] for rank in range(1, len(by_rank) + 1)]


def test_suggested_and_accepted_tags_are_counted_by_release_and_rank(reader: InMemoryMetricReader) -> None:
    answer = Recommendation(tuple(Tag(name, 0.5) for name in ("sea", "caf\u00e9", "sky")), "7")
    accepted(answer, ["cafe\u0301", "of their own"])
    accepted(answer, ["sea", "sea", "caf\u00e9"])
    assert counted(reader, "altreco.suggested", "7") == [2, 2, 2]
    assert counted(reader, "altreco.accepted", "7") == [1, 2, 0]
    accepted(Recommendation((Tag("sea", 1.0),), None, fallback=Unavailable("away")), [])
    assert counted(reader, "altreco.accepted", "fallback") == [0]
    accepted(Recommendation(tuple(Tag(f"tag-{rank}", 0.5) for rank in range(25)), "8"), [])
    assert counted(reader, "altreco.suggested", "8") == [1] * 19 + [6]
    for wrong in ("sea", [3], ["two\nlines"], None):
        with pytest.raises(InvalidHistory):
            accepted(answer, wrong)  # type: ignore[arg-type]
    assert counted(reader, "altreco.suggested", "7") == [2, 2, 2]


class Instrumentation(grpc.UnaryUnaryClientInterceptor):
    """What gRPC's instrumentation sees of each request: its name, the current span, and the span that it carries."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, list[str]]] = []

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        carried = [value.split("-")[2] for name, value in details.metadata or () if name == "traceparent"]
        name = str(details.method).removesuffix("'").rpartition("/")[2]
        self.seen.append((name, trace.get_current_span().get_span_context().span_id, carried))
        return continuation(details, request)


class AioInstrumentation(grpc.aio.UnaryUnaryClientInterceptor, Instrumentation):
    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return await Instrumentation.intercept_unary_unary(self, continuation, details, request)


@pytest.fixture
def instrumented(monkeypatch: pytest.MonkeyPatch) -> dict[str, Instrumentation]:
    """Channels of both kinds, with instrumentation put in where that of OpenTelemetry puts itself in."""
    found = {"sync": Instrumentation(), "asyncio": AioInstrumentation()}
    plain, aio = grpc.insecure_channel, grpc.aio.insecure_channel
    monkeypatch.setattr(
        grpc, "insecure_channel", lambda *args, **more: grpc.intercept_channel(plain(*args, **more), found["sync"])
    )
    monkeypatch.setattr(
        grpc.aio, "insecure_channel", lambda *args, **more: aio(*args, **more, interceptors=[found["asyncio"]])
    )
    return found


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_the_span_is_the_current_one_of_each_request_log_line_and_report(
    served: Served,
    spans: InMemorySpanExporter,
    instrumented: dict[str, Instrumentation],
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    spans.clear()
    caplog.set_level(logging.DEBUG, "altreco_client")
    current: list[int] = []

    def note(_: object) -> bool:
        current.append(trace.get_current_span().get_span_context().span_id)
        return True

    settings: dict[str, Any] = {"deadline_s": 30, "opentelemetry": True, "on_call": note}

    async def ask() -> None:
        async with AsyncTagRecommender(served.server.grpc_url, **settings) as recommender:
            await asyncio.gather(*(recommender.recommend(PICTURE, {"tag-1": 1}) for _ in range(3)))
        assert trace.get_current_span() is trace.INVALID_SPAN

    caplog.handler.addFilter(note)
    try:
        if kind == "asyncio":
            asyncio.run(ask())
        else:
            with TagRecommender(served.server.grpc_url, **settings) as recommender:
                recommender.recommend(PICTURE, {"tag-1": 1})
            assert trace.get_current_span() is trace.INVALID_SPAN
    finally:
        caplog.handler.removeFilter(note)
    calls = 3 if kind == "asyncio" else 1
    mine = {span.context.span_id for span in spans.get_finished_spans()}
    seen = instrumented[kind].seen
    assert len(mine) == calls
    assert [name for name, _, _ in seen].count("ModelInfer") == calls + 1  # and one for the vocabulary
    assert {span for _, span, _ in seen} | set(current) == mine
    assert all(carried == [f"{span:016x}"] for _, span, carried in seen)
    assert len(current) >= 2 * calls


def test_the_hook_and_the_log_tell_of_every_call(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    reports: list[CallReport] = []
    caplog.set_level(logging.DEBUG, "altreco_client")
    with TagRecommender(served.server.grpc_url, deadline_s=30, on_call=reports.append) as recommender:
        answer = recommender.recommend_for_users(PICTURE, [None, {"tag-1": 1}], request_id="both")[0]
    (report,) = reports
    assert (report.method, report.request_id, report.pictures, report.users) == ("recommend_for_users", "both", 1, 2)
    assert (report.model_version, report.fallback, report.error) == (answer.model_version, False, None)
    assert "recommend_for_users both took" in caplog.text


def test_the_request_id_and_the_span_reach_the_server(
    served: Served, spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    log = tmp_path / "triton.log"
    verbose = serving(served.repository, log_file=log, extra_args=("--log-verbose=1",))
    with verbose as server, TagRecommender(server.grpc_url, deadline_s=30) as recommender:
        answer = recommender.recommend(PICTURE, request_id="upload-4711")
    assert answer.request_id == "upload-4711"
    assert "[request id: upload-4711]" in log.read_text()
