"""What others see of a call: spans, a histogram, a report, and the request id in Triton's log."""

import logging
from pathlib import Path

import numpy as np
import pytest
from altreco_client import CallReport, InvalidRequest, PreparedImage, TagRecommender
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
