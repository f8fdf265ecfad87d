"""The load under which configs are compared: always the same requests, first one at a time, then several at once."""

import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import numpy as np
from altreco_client import TagRecommender

from loadtest.errors import LoadtestError
from loadtest.payloads import Payloads, Planned
from loadtest.workload import Workload

METRICS = {
    "pictures_per_s": "pictures a second",
    "p95_ms": "p95, ms",
    "alone_p50_ms": "p50 of a request alone, ms",
}
"""Of what a load measures; of the first, more is better."""

ALONE_SHARE = 4
"""A request in so many is asked alone, first; as many again warm the server up."""
STREAMS = {"warm-up": 0, "alone": 1, "together": 2}


@dataclass(frozen=True, kw_only=True)
class SweepLoad:
    """So many requests of a workload by so many clients at once; as work and not as time, it is the same for all."""

    workload: Workload
    requests: int = 80
    clients: int = 8

    def __post_init__(self) -> None:
        """Raises LoadtestError."""
        if self.clients < 1 or self.requests < ALONE_SHARE * self.clients:
            raise LoadtestError(
                f"{self.requests} requests by {self.clients} clients: give one client or more, and each at least "
                f"{ALONE_SHARE} requests"
            )

    def __call__(self, url: str) -> dict[str, float]:
        """METRICS of the server at host:port; raises AltrecoError for what it cannot answer."""
        with ExitStack() as stack:
            clients = [
                stack.enter_context(TagRecommender(url, deadline_s=self.workload.deadline_s * self.clients))
                for _ in range(self.clients)
            ]
            # Another number in each load: what the cache has from one before is not asked for again.
            payloads = Payloads(self.workload, clients[0].vocabulary.tags, secrets.randbits(62))
            few = self.requests // ALONE_SHARE
            self._ask(clients, payloads, STREAMS["warm-up"], few)
            alone, _, _ = self._ask(clients[:1], payloads, STREAMS["alone"], few)
            together, pictures, seconds = self._ask(clients, payloads, STREAMS["together"], self.requests)
        return {
            "pictures_per_s": pictures / seconds,
            "p95_ms": float(np.percentile(together, 95, method="higher")),
            "alone_p50_ms": float(np.median(alone)),
        }

    def _ask(
        self, clients: Sequence[TagRecommender], payloads: Payloads, stream: int, count: int
    ) -> tuple[list[float], int, float]:
        """Latencies in ms, pictures, and seconds from the first request to the last answer."""
        planned = list(islice(payloads.stream(stream), count))
        waiting, lock = iter(planned), threading.Lock()

        def next_one() -> Planned | None:
            with lock:
                return next(waiting, None)

        def work(client: TagRecommender) -> list[float]:
            return [self._one(client, payloads, request) for request in iter(next_one, None)]

        started = time.perf_counter()
        with ThreadPoolExecutor(len(clients)) as pool:
            latencies = [latency for of in pool.map(work, clients) for latency in of]
        seconds = time.perf_counter() - started
        return latencies, sum(len(request.pictures) for request in planned), seconds

    def _one(self, client: TagRecommender, payloads: Payloads, request: Planned) -> float:
        images = [payloads.picture(number) for number in request.pictures]
        sent = time.perf_counter()
        client.recommend_batch(images, [request.history] * len(images), self.workload.k)
        return 1000 * (time.perf_counter() - sent)
