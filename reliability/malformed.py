"""Thousands of malformed requests of many kinds, while other clients keep getting right answers."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from altreco_client import InvalidHistory, TagRecommender, contract
from tritonclient.grpc import service_pb2 as pb

from deploy.local import Server
from measure.server import footprint
from reliability.http2 import INFER
from reliability.malformations import CHANGES, CLASSES, FINITE, NOT_FINITE, RIGHT, Change, Random, pick
from reliability.outcome import Check, Outcome
from reliability.questions import ALLOWED, good_checks, passing, under_load
from reliability.raw_requests import ensemble_request
from reliability.servers import GROWTH_MIB, connections_back, serving
from reliability.wording import good_figures, kinds

CACHE_BYTES = 16 * 1024**2
DEADLINE_S = 30.0
"""Deadline of every malformed call; one that takes longer hangs."""
LARGEST, LARGEST_SHARE = "large batch", 12
"""The kind that is sent first, one for every LARGEST_SHARE requests that follow, because gRPC keeps buffers for large
messages: of 2,400 such requests, the first 800 made the server 225 MiB larger, and the next 1,600 another 23 MiB."""
METADATA_BYTES = 2**20
"""Triton repeats a wrong name of any length in its message, but by default a client accepts only 8 KiB."""
HISTORIES = {"NaN": float("nan"), "infinite": float("inf"), "minus infinite": float("-inf"), "negative": -1.0}
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclass(frozen=True)
class Target:
    """A connection to the server, a valid request, and its scores."""

    channel: grpc.Channel
    request: bytes
    scores: np.ndarray


Attempt = Callable[[Target, Random], str]
"""Sends something malformed and returns the result: a gRPC status, or what the answer is worth."""


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
    """Send all kinds equally often, in random order; the seed alone determines the requests."""
    with (
        serving(repository, cache_size_bytes=CACHE_BYTES) as server,
        under_load(server.grpc_url, callers=callers, deadline_s=deadline_s) as calls,
        _target(server, repository) as target,
    ):
        largest = requests // LARGEST_SHARE
        _send(target, [LARGEST] * largest, senders, seed)
        first, before, started_s = footprint(server.pid), passing(calls, window_s), time.monotonic()
        names = np.random.default_rng(seed).permutation(np.resize(list(KINDS), requests)).tolist()
        results = _send(target, names[: requests // 2], senders, seed)
        half = footprint(server.pid)
        for kind, statuses in _send(target, names[requests // 2 :], senders, seed + 1).items():
            results.setdefault(kind, Counter()).update(statuses)
        during, took_s = calls.since(started_s), time.monotonic() - started_s
        after, back = passing(calls, window_s), connections_back(server, first.connections)
        last = footprint(server.pid)
        refused = _refused_by_client(server)
    return Outcome(
        title=f"{requests:,} malformed requests",
        did=f"{len(KINDS)} kinds of malformed requests to the gRPC port, in random order from {senders} senders, while "
        f"{callers} callers sent requests without pause. Before them, {largest:,} of the largest kind, because gRPC "
        "allocates buffers for some hundreds of these.",
        figures={
            **good_figures(calls, (before, window_s), (during, took_s), (after, window_s)),
            "server before": str(first),
            "server after half of them": str(half),
            "server after all": str(last),
            **{kind: kinds(statuses) for kind, statuses in results.items()},
            "histories that the client refuses to send": ", ".join(refused),
        },
        checks=[
            *good_checks(calls, deadline_s),
            Check("every kind was sent", set(results) == set(KINDS)),
            *(_as_expected(kind, statuses) for kind, statuses in results.items()),
            Check(f"memory grew by less than {GROWTH_MIB:g} MiB in the second half", last.grown_mib(half) < GROWTH_MIB),
            Check("their connections are closed", back),
            Check("the client refuses counts that are negative or not finite", set(refused) == set(HISTORIES)),
        ],
    )


def _call(target: Target, path: str, body: bytes) -> str:
    """Make one call with any bytes as its message; return the error's status, or what the answer is worth."""
    try:
        answer = target.channel.unary_unary(path)(body, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        return str(error.code().name)
    return _judged(target, answer)


def _judged(target: Target, answer: bytes) -> str:
    """Compare an answer with that of the valid request."""
    if pb.ModelInferResponse.FromString(answer).outputs[0].datatype == "BYTES":
        return CLASSES
    scores = _scores_in(answer)
    if not np.isfinite(scores).all():
        return NOT_FINITE
    same = scores.shape == target.scores.shape and np.allclose(scores, target.scores, rtol=0, atol=ALLOWED)
    return RIGHT if same else FINITE


def _scores_in(answer: bytes) -> np.ndarray:
    return np.frombuffer(pb.ModelInferResponse.FromString(answer).raw_output_contents[0], np.float32)


def _inference(change: Change) -> Attempt:
    """Return an attempt that sends a changed request to the ensemble."""

    def attempt(target: Target, rng: Random) -> str:
        request = pb.ModelInferRequest.FromString(target.request)
        body = change(request, rng)
        return _call(target, INFER, request.SerializeToString() if body is None else body)

    return attempt


def _unknown_method(target: Target, rng: Random) -> str:
    service = INFER.removesuffix("ModelInfer")
    path = pick(rng, "/", "/x/y", service, service + "Nothing", service + "modelinfer", "/" + "m" * 4000)
    return _call(target, path, target.request)


def _truncated_stream(target: Target, rng: Random) -> str:
    """Send a valid message on a stream, then garbage, a truncated message or an empty one."""
    wrong = pick(rng, rng.bytes(500), target.request[: int(rng.integers(1, 150_000))], b"")
    messages = iter([target.request, wrong])
    try:
        answers = list(target.channel.stream_stream(STREAM_INFER)(messages, timeout=DEADLINE_S))
    except grpc.RpcError as error:
        return str(error.code().name)
    refused = pb.ModelStreamInferResponse.FromString(answers[-1]).error_message
    return "error in the stream" if refused else "stream ended"


def _cancelled_stream(target: Target, rng: Random) -> str:
    calls = target.channel.stream_stream(STREAM_INFER)(iter([target.request] * 3), timeout=DEADLINE_S)
    if rng.random() < 0.5:
        next(calls)
    calls.cancel()
    return str(calls.code().name)


def _name(function: Change | Attempt) -> str:
    return function.__name__.strip("_").replace("_", " ")


KINDS: Mapping[str, tuple[Attempt, frozenset[str]]] = {
    **{_name(change): (_inference(change), results) for change, results in CHANGES.items()},
    _name(_unknown_method): (_unknown_method, frozenset({"UNIMPLEMENTED"})),
    _name(_truncated_stream): (_truncated_stream, frozenset({"error in the stream", "stream ended"})),
    _name(_cancelled_stream): (_cancelled_stream, frozenset({"CANCELLED"})),
}
"""Maps the name of a kind to its attempt and its acceptable results."""


def _as_expected(kind: str, results: Mapping[str, int]) -> Check:
    expected = KINDS[kind][1]
    return Check(f"{kind}: expected {', '.join(sorted(expected))}; got {kinds(results)}", set(results) <= expected)


def _send(target: Target, names: Sequence[str], senders: int, seed: int) -> dict[str, Counter[str]]:
    """Send the named kinds; count the results of each."""
    results: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS if kind in names}
    with ThreadPoolExecutor(senders) as pool:
        sent = pool.map(
            lambda number: KINDS[names[number]][0](target, np.random.default_rng([seed, number])), range(len(names))
        )
        for kind, result in zip(names, sent, strict=True):
            results[kind][result] += 1
    return results


@contextmanager
def _target(server: Server, repository: Path) -> Iterator[Target]:
    request = ensemble_request(repository)
    metadata = [(f"grpc.{limit}", METADATA_BYTES) for limit in ("max_metadata_size", "absolute_max_metadata_size")]
    with grpc.insecure_channel(server.grpc_url, [*metadata, ("grpc.enable_http_proxy", 0)]) as channel:
        yield Target(channel, request, _scores_in(channel.unary_unary(INFER)(request, timeout=DEADLINE_S)))


def _refused_by_client(server: Server) -> list[str]:
    """Name the HISTORIES for which the client raises InvalidHistory."""
    refused = []
    with TagRecommender(server.grpc_url, deadline_s=30) as recommender:
        picture = np.zeros(contract.IMAGE.dims, np.uint8)
        for name, count in HISTORIES.items():
            try:
                recommender.recommend(picture, {recommender.vocabulary.tags[0]: count})
            except InvalidHistory:
                refused.append(name)
    return refused
