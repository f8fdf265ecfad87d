"""Servers that take turns under load, and what their cache makes of it."""

import re
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from altreco_client import contract
from tqdm import tqdm

from benchmark.load import Request, closed_load, connected_clients, mixed_requests, new_requests
from benchmark.settings import Settings
from deploy.local import Server, on_free_ports, serve
from export.served import DEADLINE_S, connected

KNOWN_PICTURES = 8
SERVER: Mapping[str, Any] = {"strict": True, "stop_timeout_s": 1}
COUNTER = re.compile(
    r'^nv_cache_num_(hits|misses)_per_model\{model="' + contract.VISUAL_ENCODER.name + r'",[^}]*\} (\d+)', re.MULTILINE
)

Figures = dict[str, list[float]]
"""p50_ms, p99_ms, requests_per_s and hit_rate: a value a round."""


@dataclass(frozen=True)
class Phase:
    """A kind of load: so many clients, with a share of repeated pictures from 0 to 1."""

    name: str
    clients: int
    repeated: float


def phases(kind: str, repeated: float, settings: Settings) -> list[Phase]:
    """One client, whose latency is that of the server alone, and several, who saturate it."""
    return [
        Phase(f"{kind}, {clients} client{'s' * (clients > 1)}", clients, repeated) for clients in (1, settings.clients)
    ]


@contextmanager
def served(repositories: Mapping[str, Path], cache_size_bytes: int) -> Iterator[dict[str, Server]]:
    """A Triton for each, all at once: one without load takes nothing from the others. Raises ServerError."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serve(on_free_ports(repository, cache_size_bytes=cache_size_bytes, **SERVER)))
            for name, repository in repositories.items()
        }


def take_turns(
    servers: Mapping[str, Server], loads: Sequence[Phase], tags: int, settings: Settings, title: str
) -> dict[str, dict[str, Figures]]:
    """Contestant, phase, figures; the order of the contestants changes from round to round."""
    figures: dict[str, dict[str, Figures]] = {name: {phase.name: {} for phase in loads} for name in servers}
    steps = settings.rounds * len(loads) * len(servers)
    with tqdm(total=steps, desc=title, unit="load") as bar:
        for number in range(settings.rounds):
            for phase in loads:
                for name in list(servers)[:: -1 if number % 2 else 1]:
                    for key, value in _measure(servers[name], phase, tags, settings).items():
                        figures[name][phase.name].setdefault(key, []).append(value)
                    bar.update()
    return figures


def _measure(server: Server, phase: Phase, tags: int, settings: Settings) -> dict[str, float]:
    with connected_clients(server.grpc_url, phase.clients) as clients:
        known = list(islice(new_requests(tags), KNOWN_PICTURES))
        if phase.repeated:
            ask_all(clients[0], known)
        streams = [mixed_requests(tags, known, phase.repeated) for _ in clients]
        closed_load(clients, streams, settings.warmup_s)
        before = np.array(cache_counts(server))
        load = closed_load(clients, streams, settings.window_s)
        hits, misses = np.array(cache_counts(server)) - before
    p50, p99 = np.percentile(load.latencies_ms, [50, 99])
    return {
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "requests_per_s": len(load.latencies_ms) / load.seconds,
        "hit_rate": float(hits / (hits + misses)),
    }


def ask_all(client: triton.InferenceServerClient, requests: Sequence[Request]) -> list[np.ndarray]:
    """One after the other; TAGS [N] of each."""
    name = contract.TAG_RECOMMENDER.name
    answers = [client.infer(name, request, client_timeout=DEADLINE_S) for request in requests]
    return [answer.as_numpy(contract.TAGS.name)[0] for answer in answers]


def cache_counts(server: Server) -> tuple[int, int]:
    """Hits and misses of the visual encoder so far, from Triton's metrics."""
    with urllib.request.urlopen(server.metrics_url, timeout=DEADLINE_S) as answer:
        counts = dict(COUNTER.findall(answer.read().decode()))
    return int(counts.get("hits", 0)), int(counts.get("misses", 0))


def held_pictures(repository: Path, tags: int, *, cache_size_bytes: int, encoding_bytes: int) -> int:
    """How many pictures a cache holds: it is asked for more than can fit, then for the same, the latest first."""
    count = cache_size_bytes // encoding_bytes + 2
    with served({"": repository}, cache_size_bytes) as servers, connected(servers[""].grpc_url) as client:
        requests = list(islice(new_requests(tags), count))
        ask_all(client, requests)
        before, _ = cache_counts(servers[""])
        ask_all(client, requests[::-1])
        after, _ = cache_counts(servers[""])
    return after - before
