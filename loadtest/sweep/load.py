"""The load that compares configs: the same requests for all, first one at a time, then concurrently."""

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice

from altreco_client import PreparedImage, TagRecommender

from loadtest.errors import LoadtestError
from loadtest.load.payloads import Payloads
from loadtest.load.workload import Workload
from measure.callers import Caller, Load, closed_load, shared

METRICS = {
    "pictures_per_s": "pictures per second",
    "p95_ms": "p95, ms",
    "alone_p50_ms": "p50 of single requests, ms",
}
"""Metrics of a load. More is better only for the first."""

ALONE_SHARE = 4
"""One request in ALONE_SHARE is first sent alone; as many others warm up the server."""
STREAMS = {"warm-up": 0, "alone": 1, "together": 2}


@dataclass(frozen=True, kw_only=True)
class SweepLoad:
    """A fixed number of requests from concurrent clients, so that every configuration does the same work."""

    workload: Workload
    requests: int = 80
    clients: int = 8

    def __post_init__(self) -> None:
        """Raise LoadtestError for too few requests."""
        if self.clients < 1 or self.requests < ALONE_SHARE * self.clients:
            raise LoadtestError(
                f"{self.requests} requests by {self.clients} clients: expected at least one client, and "
                f"{ALONE_SHARE} requests for each"
            )

    def __call__(self, url: str) -> dict[str, float]:
        """Measure METRICS of the server at host:port; raises AltrecoError if a request fails."""
        with ExitStack() as stack:
            clients = [
                stack.enter_context(TagRecommender(url, deadline_s=self.workload.deadline_s * self.clients))
                for _ in range(self.clients)
            ]
            # A new number for each load, so that no picture is cached from an earlier one.
            payloads = Payloads(self.workload, clients[0].vocabulary.tags, secrets.randbits(62))
            few = self.requests // ALONE_SHARE
            self._ask(clients, payloads, STREAMS["warm-up"], few)
            alone, _ = self._ask(clients[:1], payloads, STREAMS["alone"], few)
            together, pictures = self._ask(clients, payloads, STREAMS["together"], self.requests)
        return {
            "pictures_per_s": pictures / together.seconds,
            "p95_ms": together.percentile_ms(95),
            "alone_p50_ms": alone.percentile_ms(50),
        }

    def _ask(self, clients: Sequence[TagRecommender], payloads: Payloads, stream: int, count: int) -> tuple[Load, int]:
        """Send `count` requests of a stream; return the load and the number of pictures."""
        planned = list(islice(payloads.stream(stream), count))
        images = (([payloads.picture(number) for number in of.pictures], of.history) for of in planned)
        requests = shared(images)
        load = closed_load([Caller(partial(self._one, client), requests) for client in clients])
        return load, sum(len(of.pictures) for of in planned)

    def _one(self, client: TagRecommender, request: tuple[list[PreparedImage], dict[str, float]]) -> None:
        images, history = request
        client.recommend_batch(images, [history] * len(images), self.workload.k)
