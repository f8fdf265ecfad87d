"""The load under which configs are compared: always the same requests, first one at a time, then several at once."""

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice

from altreco_client import PreparedImage, TagRecommender

from loadtest.errors import LoadtestError
from loadtest.payloads import Payloads
from loadtest.workload import Workload
from measure.callers import Caller, Load, closed_load, shared

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
            alone, _ = self._ask(clients[:1], payloads, STREAMS["alone"], few)
            together, pictures = self._ask(clients, payloads, STREAMS["together"], self.requests)
        return {
            "pictures_per_s": pictures / together.seconds,
            "p95_ms": together.percentile_ms(95),
            "alone_p50_ms": alone.percentile_ms(50),
        }

    def _ask(self, clients: Sequence[TagRecommender], payloads: Payloads, stream: int, count: int) -> tuple[Load, int]:
        """The load of so many requests, and their pictures."""
        planned = list(islice(payloads.stream(stream), count))
        images = (([payloads.picture(number) for number in of.pictures], of.history) for of in planned)
        requests = shared(images)
        load = closed_load([Caller(partial(self._one, client), requests) for client in clients])
        return load, sum(len(of.pictures) for of in planned)

    def _one(self, client: TagRecommender, request: tuple[list[PreparedImage], dict[str, float]]) -> None:
        images, history = request
        client.recommend_batch(images, [history] * len(images), self.workload.k)
