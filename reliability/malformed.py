"""Thousands of malformed requests of many kinds, while others ask on and get right answers."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from altreco_client import InvalidHistory, TagRecommender, contract
from tritonclient.grpc import service_pb2 as pb

from deploy.local import Server
from measure.server import footprint
from reliability.http2 import INFER
from reliability.malformations import CHANGES, Change, Random
from reliability.malformed_bytes import ATTEMPTS, DEADLINE_S, Attempt, Target, call, scores_in
from reliability.outcome import Check, Outcome
from reliability.questions import good_checks, passing, under_load
from reliability.raw_requests import ensemble_request, small_request
from reliability.servers import GROWTH_MIB, connections_back, serving
from reliability.wording import good_figures, kinds

CACHE_BYTES = 16 * 1024**2
LARGEST, LARGEST_SHARE = "large batch", 12
"""By kind; one for so many of the others, before them. Of 2,400, the first 800 made the server 225 MiB larger, the next
1,600 by 23 MiB."""
METADATA_BYTES = 2**20
"""Triton repeats a wrong name in its message, however long it is: a client takes 8 KiB unless told otherwise."""
HISTORIES = {"NaN": float("nan"), "infinite": float("inf"), "minus infinite": float("-inf"), "negative": -1.0}


def malformed_requests(
    repository: Path,
    *,
    requests: int = 10_000,
    senders: int = 4,
    callers: int = 4,
    deadline_s: float = 30.0,
    window_s: float = 10.0,
    seed: int = 0,
) -> Outcome:
    """Every kind as often as the others, in random order; what they are depends on nothing but the seed."""
    with (
        serving(repository, cache_size_bytes=CACHE_BYTES) as server,
        under_load(server.grpc_url, callers=callers, deadline_s=deadline_s) as calls,
        _target(server, repository) as target,
    ):
        largest = requests // LARGEST_SHARE
        _send(target, [LARGEST] * largest, senders, seed)
        first, before, started_s = footprint(server.pid), passing(calls, window_s), time.monotonic()
        names = np.random.default_rng(seed).permutation(np.resize(list(KINDS), requests)).tolist()
        came = _send(target, names[: requests // 2], senders, seed)
        half = footprint(server.pid)
        for kind, statuses in _send(target, names[requests // 2 :], senders, seed + 1).items():
            came.setdefault(kind, Counter()).update(statuses)
        during, took_s = calls.since(started_s), time.monotonic() - started_s
        after, back = passing(calls, window_s), connections_back(server, first.connections)
        last = footprint(server.pid)
        refused = _refused_by_client(server)
    return Outcome(
        title=f"{requests:,} malformed requests",
        did=f"{len(KINDS)} kinds of malformed requests, and of bytes that are none, to the gRPC and the HTTP port, in "
        f"random order by {senders} senders, while {callers} callers asked without pause; before them {largest:,} of "
        "the largest, as gRPC comes to keep buffers for some hundreds of such.",
        figures={
            **good_figures(calls, (before, window_s), (during, took_s), (after, window_s)),
            "server before": str(first),
            "server after half of them": str(half),
            "server after all": str(last),
            **{kind: kinds(statuses) for kind, statuses in came.items()},
            "histories that the client refuses before it sends": ", ".join(refused),
        },
        checks=[
            *good_checks(calls, deadline_s),
            Check("every kind was sent", set(came) == set(KINDS)),
            *(_as_expected(kind, statuses) for kind, statuses in came.items()),
            Check(f"memory grew by less than {GROWTH_MIB:g} MiB in the second half", last.grown_mib(half) < GROWTH_MIB),
            Check("their connections are closed", back),
            Check("the client refuses counts that are no numbers of zero or more", set(refused) == set(HISTORIES)),
        ],
    )


def _inference(change: Change) -> Attempt:
    """A request to the ensemble, changed."""

    def attempt(target: Target, rng: Random) -> str:
        request = pb.ModelInferRequest.FromString(target.request)
        body = change(request, rng)
        return call(target, INFER, request.SerializeToString() if body is None else body)

    return attempt


def _name(function: Change | Attempt) -> str:
    return function.__name__.strip("_").replace("_", " ")


KINDS: Mapping[str, tuple[Attempt, frozenset[str]]] = {
    **{_name(change): (_inference(change), statuses) for change, statuses in CHANGES.items()},
    **{_name(attempt): (attempt, statuses) for attempt, statuses in ATTEMPTS.items()},
}
"""Name to how one is sent, and what may come of it. Those that no tritonserver 2.51 survives: known_crashes.py."""


def _as_expected(kind: str, came: Mapping[str, int]) -> Check:
    expected = KINDS[kind][1]
    return Check(f"{kind}: expected {', '.join(sorted(expected))}; came {kinds(came)}", set(came) <= expected)


def _send(target: Target, names: Sequence[str], senders: int, seed: int) -> dict[str, Counter[str]]:
    """Kind to what came how often; for what got no connection, the kind of the error."""

    def one(number: int) -> str:
        attempt, _ = KINDS[names[number]]
        try:
            return attempt(target, np.random.default_rng([seed, number]))
        except OSError as error:
            return type(error).__name__

    came: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS if kind in names}
    with ThreadPoolExecutor(senders) as pool:
        for kind, status in zip(names, pool.map(one, range(len(names))), strict=True):
            came[kind][status] += 1
    return came


@contextmanager
def _target(server: Server, repository: Path) -> Iterator[Target]:
    request = ensemble_request(repository)
    metadata = [(f"grpc.{limit}", METADATA_BYTES) for limit in ("max_metadata_size", "absolute_max_metadata_size")]
    with grpc.insecure_channel(server.grpc_url, metadata) as channel:
        yield Target(
            grpc_url=server.grpc_url,
            http_url=server.http_url,
            channel=channel,
            request=request,
            small=small_request(repository),
            scores=scores_in(channel.unary_unary(INFER)(request, timeout=DEADLINE_S)),
        )


def _refused_by_client(server: Server) -> list[str]:
    """Of those histories, which raise InvalidHistory."""
    refused = []
    with TagRecommender(server.grpc_url, deadline_s=30) as recommender:
        picture = np.zeros(contract.IMAGE.dims, np.uint8)
        for name, count in HISTORIES.items():
            try:
                recommender.recommend(picture, {recommender.vocabulary.tags[0]: count})
            except InvalidHistory:
                refused.append(name)
    return refused
