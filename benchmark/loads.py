"""Load on Triton servers in turn, and the hit rates of their caches."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from altreco_client import contract
from altreco_client.call.wire import ranked

from benchmark.settings import Settings
from deploy.local import Server, on_free_ports, serve
from export.served import DEADLINE_S, connected
from measure.callers import Caller, closed_load
from measure.progress import progress_bar
from measure.requests import Request, known, mixed, new_requests
from measure.server import counters, grown, hit_share
from measure.turns import order

SERVER: Mapping[str, Any] = {"strict": True, "stop_timeout_s": 0}
ANSWERED_TAGS = 5

Figures = dict[str, list[float]]
"""p50_ms, p99_ms, requests_per_s and hit_rate, each with one value per round."""


@dataclass(frozen=True)
class Phase:
    """A kind of load: the number of clients and the share of repeated pictures, 0 to 1."""

    name: str
    clients: int
    repeated: float


def phases(kind: str, repeated: float, settings: Settings) -> list[Phase]:
    """Make a phase with one client, for the latency of an idle server, and one with several, which saturate it."""
    return [
        Phase(f"{kind}, {clients} client{'s' * (clients > 1)}", clients, repeated) for clients in (1, settings.clients)
    ]


@contextmanager
def served(repositories: Mapping[str, Path], cache_size_bytes: int) -> Iterator[dict[str, Server]]:
    """Run one Triton per repository, all at once: an idle server takes no CPU time. Raises ServerError."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serve(on_free_ports(repository, cache_size_bytes=cache_size_bytes, **SERVER)))
            for name, repository in repositories.items()
        }


def take_turns(
    servers: Mapping[str, Server], loads: Sequence[Phase], tags: int, settings: Settings, title: str
) -> dict[str, dict[str, Figures]]:
    """Load every server in turn, phase by phase and round by round. Returns figures by server and phase."""
    figures: dict[str, dict[str, Figures]] = {name: {phase.name: {} for phase in loads} for name in servers}
    steps = settings.rounds * len(loads) * len(servers)
    with progress_bar(title=title, total=steps, unit="load") as bar:
        for number in range(settings.rounds):
            for phase in loads:
                for name in order(list(servers), number):
                    for key, value in measure_load(servers[name], phase, tags, settings).items():
                        figures[name][phase.name].setdefault(key, []).append(value)
                    bar.update()
    return figures


def measure_load(server: Server, phase: Phase, tags: int, settings: Settings) -> dict[str, float]:
    """Warm the server up and load it. Returns one value for each key of Figures."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server.grpc_url)) for _ in range(phase.clients)]
        again = known(new_requests(tags))
        if phase.repeated:
            ask_all(clients[0], again)
        callers = [caller(client, mixed(new_requests(tags), again, phase.repeated)) for client in clients]
        closed_load(callers, seconds=settings.warmup_s)
        before = counters(clients[0])
        load = closed_load(callers, seconds=settings.window_s)
        after = counters(clients[0])
    return {
        "p50_ms": load.percentile_ms(50),
        "p99_ms": load.percentile_ms(99),
        "requests_per_s": load.per_second,
        "hit_rate": hit_share(before, after),
    }


def caller(client: triton.InferenceServerClient, requests: Iterator[Request]) -> Caller[Request, None]:
    """Return a caller that asks the ensemble for the ANSWERED_TAGS best tags."""
    outputs = ranked(ANSWERED_TAGS)

    def ask(request: Request) -> None:
        client.infer(contract.TAG_RECOMMENDER.name, request, outputs=outputs, client_timeout=DEADLINE_S)

    return Caller(ask, requests)


def ask_all(client: triton.InferenceServerClient, requests: Sequence[Request]) -> list[np.ndarray]:
    """Send the requests one after the other, and return TAGS [N] of each."""
    name = contract.TAG_RECOMMENDER.name
    answers = [client.infer(name, request, client_timeout=DEADLINE_S) for request in requests]
    return [answer.as_numpy(contract.TAGS.name)[0] for answer in answers]


def held_pictures(repository: Path, tags: int, *, cache_size_bytes: int, encoding_bytes: int) -> int:
    """Count the pictures that a cache holds: request more than can fit, then the same ones from last to first."""
    count = cache_size_bytes // encoding_bytes + 2
    with served({"": repository}, cache_size_bytes) as servers, connected(servers[""].grpc_url) as client:
        requests = list(islice(new_requests(tags), count))
        ask_all(client, requests)
        before = counters(client)
        ask_all(client, requests[::-1])
        return grown(before, counters(client), contract.VISUAL_ENCODER, "cache_hit")
