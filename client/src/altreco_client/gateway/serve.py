"""The gateway as a process: uvicorn with limits, and OpenTelemetry's metrics for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..aio import AsyncTagRecommender
from .app import create_app
from .browsers import LOOPBACK
from .limits import HEAD_BYTES

HEAD_S = 10.0
"""Longest time for them to arrive, in seconds."""
CONNECTIONS = 512
STOP_S = 10
"""Longest wait for requests under way when the gateway is told to stop, in seconds."""


class Protocol(H11Protocol):
    """Closes a connection whose request does not begin in time; uvicorn itself would wait without end.

    Not uvicorn's httptools, which saved no time that could be measured, and loses the body of a request that offers
    HTTP/2, as Java's do.
    """

    head_s = HEAD_S
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop the clock once the headers are complete, and start it with the first byte of the next request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._head is None:
            self._head = self.loop.call_later(self.head_s, self.timeout_keep_alive_handler)

    def _stop(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def export_metrics() -> None:
    """Let the metrics of this process, the client's and FastAPI's own, be read in Prometheus' format. Call it once."""
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))


def options(**more: Any) -> dict[str, Any]:
    """uvicorn's settings, with the gateway's limits."""
    return {
        "http": Protocol,
        "proxy_headers": False,  # nothing here asks who called
        "ws": "none",
        "h11_max_incomplete_event_size": 4 * HEAD_BYTES,  # far beyond the limit, to answer what exceeds it with words
        "limit_concurrency": CONNECTIONS,
        "timeout_graceful_shutdown": STOP_S,
        "server_header": False,
        "access_log": False,
        **more,
    }


def serve(recommender: AsyncTagRecommender, users: Any, *, host: str, port: int, deadline_s: float) -> None:
    """Serve until a signal. Beyond loopback, any name may be used: an ingress or a mesh decides who may ask."""
    export_metrics()
    hosts = LOOPBACK if host in LOOPBACK else ("*",)
    uvicorn.run(create_app(recommender, users, deadline_s=deadline_s, hosts=hosts), **options(host=host, port=port))
