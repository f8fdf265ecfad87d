"""A closed load on the served ensemble: every client asks again as soon as it has its answer."""

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as triton
from altreco_client import contract
from numpy.typing import NDArray

from export.served import DEADLINE_S, connected, infer_input

Request = list[triton.InferInput]
"""The two inputs of the ensemble, one picture, ready to be sent."""

TAGS_IN_HISTORY = 20
ANSWERED_TAGS = 5


@dataclass(frozen=True)
class Load:
    """What the clients saw: a latency for each request, and the seconds from the first to the last answer's end."""

    latencies_ms: NDArray[np.float64]
    seconds: float


@contextmanager
def connected_clients(url: str, count: int) -> Iterator[list[triton.InferenceServerClient]]:
    """So many clients; what goes wrong on the way becomes a ServerFailure."""
    with ExitStack() as stack:
        yield [stack.enter_context(connected(url)) for _ in range(count)]


def new_requests(tags: int) -> Iterator[Request]:
    """Requests without end, of one user, each with a picture that nobody has asked for before; `tags` is N."""
    rng = np.random.default_rng()
    picture = rng.integers(0, 256, (1, *contract.IMAGE.dims), dtype=np.uint8)
    history = np.zeros((1, tags), dtype=np.float32)
    history[0, rng.choice(tags, TAGS_IN_HISTORY, replace=False)] = 1
    user = infer_input(contract.USER_HISTORY, history)
    while True:
        picture[0, 0] = rng.integers(0, 256, picture[0, 0].shape, dtype=np.uint8)
        yield [infer_input(contract.IMAGE, picture), user]


def mixed_requests(tags: int, known: Sequence[Request], repeated: float) -> Iterator[Request]:
    """New ones, with the `known` in turn in between: a share of `repeated`, 0 to 1, evenly spread."""
    new, again = new_requests(tags), itertools.cycle(known)
    for i in itertools.count():
        yield next(again) if int((i + 1) * repeated) > int(i * repeated) else next(new)


def closed_load(
    clients: Sequence[triton.InferenceServerClient], streams: Sequence[Iterator[Request]], seconds: float
) -> Load:
    """A thread for each client and its stream, until so many seconds are over; requests under way are waited for."""
    started = time.perf_counter()

    def ask(client: triton.InferenceServerClient, stream: Iterator[Request]) -> list[float]:
        outputs = [triton.InferRequestedOutput(contract.TAGS.name, class_count=ANSWERED_TAGS)]
        latencies = []
        while time.perf_counter() < started + seconds:
            request = next(stream)  # at most 0.1 ms for a new picture, before its clock starts
            sent = time.perf_counter()
            client.infer(contract.TAG_RECOMMENDER.name, request, outputs=outputs, client_timeout=DEADLINE_S)
            latencies.append(1000 * (time.perf_counter() - sent))
        return latencies

    with ThreadPoolExecutor(len(clients)) as pool:
        futures = [pool.submit(ask, client, stream) for client, stream in zip(clients, streams, strict=True)]
        latencies = [latency for future in futures for latency in future.result()]
    return Load(np.array(latencies), time.perf_counter() - started)
