"""The HTTP gateway against the Python client: photos that the cache has, from several callers at once."""

import http.client
import io
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import numpy as np
from altreco_client import TagRecommender
from PIL import Image

from benchmark.loads import served
from benchmark.settings import Settings
from deploy.local.process import free_port, running, wait_until_ready
from export.full_size import folded
from measure.callers import Caller, Load, closed_load, random_moments, scheduled_load
from measure.markdown import cell, number, table
from measure.requests import TAGS_IN_HISTORY, history, new_pictures
from measure.turns import by_turns

CALLERS = 16
DEADLINE_S = 30.0
START_S = 60.0
CLIENT, GATEWAY = "altreco_client", "gateway"

SHARE = 1 / 3
"""Share of the gateway's highest rate in the open load."""

LONGER = 4
"""Factor on the time of a turn where every picture is computed: there are fewer answers a second."""

Figures = dict[str, float]
PhotoCaller = Caller[bytes, object]
Loading = Callable[[list[PhotoCaller]], Figures]
Contestant = Callable[[Loading], Figures]
ANSWER = re.compile(rb"HTTP/1.1 (\d+) .*?\r\ncontent-length: (\d+)(?=\r\n).*?\r\n\r\n(.*)", re.DOTALL)


def measure_gateway(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Measure both, in turn, on shared cores and with cores of Triton's own. Raises ExportError, ServerError."""
    log = folder / "gateway.log"

    def busy(seconds: float) -> Callable[[], Loading]:
        return lambda: partial(_busy, warmup_s=settings.warmup_s, seconds=seconds)

    repository = folded(settings.preset, configs, folder)
    with _contestants(repository, log, cache_size_bytes=settings.cache_size_bytes) as contestants:
        turns = _turns(contestants, busy(settings.window_s), settings.rounds, "busy")
        rate = SHARE * median(turns[GATEWAY]["requests_per_s"])
        calm = _turns(contestants, partial(_Calm, settings, rate), settings.rounds, "open")
    cores = sorted(os.sched_getaffinity(0))
    triton, others = cores[: len(cores) // 2] or cores, cores[len(cores) // 2 :]
    with _contestants(repository, log, cache_size_bytes=0, triton_cores=triton, other_cores=others) as contestants:
        apart = _turns(contestants, busy(LONGER * settings.window_s), settings.rounds, "cores apart")
    return {
        "turns": turns,
        "open": {"rate_per_s": rate, "turns": calm},
        "apart": {"cores": [len(triton), len(others)], "turns": apart},
    }


def _turns(
    contestants: Mapping[str, Contestant], make_load: Callable[[], Loading], rounds: int, title: str
) -> dict[str, dict[str, list[float]]]:
    loads = {name: partial(of, make_load()) for name, of in contestants.items()}
    taken = by_turns(loads, rounds, title=f"gateway, {title}")
    return {name: {key: [turn[key] for turn in of] for key in of[0]} for name, of in taken.items()}


@contextmanager
def _contestants(
    repository: Path,
    log: Path,
    *,
    cache_size_bytes: int,
    triton_cores: Sequence[int] = (),
    other_cores: Sequence[int] = (),
) -> Iterator[dict[str, Contestant]]:
    """Start Triton and the gateway. Gives a function for each way, which puts a load on it."""
    with ExitStack() as stack:
        with _on(triton_cores):
            url = stack.enter_context(served({"": repository}, cache_size_bytes))[""].grpc_url
        stack.enter_context(_on(other_cores))
        recommender = stack.enter_context(TagRecommender(url, deadline_s=DEADLINE_S))
        port = stack.enter_context(_gateway(url, log))
        counts = history(recommender.vocabulary.tags, 0)
        head = f"POST /v1/tags?{urlencode({'history': json.dumps(counts)})} HTTP/1.1\r\nHost: localhost\r\n".encode()
        photos = list(islice(_photos(), CALLERS))

        def client(load: Loading) -> Figures:
            return load([Caller(partial(recommender.recommend, history=counts), repeat(photo)) for photo in photos])

        def gateway(load: Loading) -> Figures:
            with ExitStack() as opened:  # for one turn: the gateway closes connections that are idle
                places = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in photos]
                asks = [partial(_ask, place, head) for place in places]
                return load([Caller(ask, repeat(photo)) for ask, photo in zip(asks, photos, strict=True)])

        yield {CLIENT: client, GATEWAY: gateway}


@contextmanager
def _on(cores: Sequence[int]) -> Iterator[None]:
    """Keep this thread, and the processes and threads that it starts meanwhile, on these cores, if any."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _gateway(url: str, log: Path) -> Iterator[int]:
    """Run `altreco gateway`; gives its port."""
    port = free_port()
    command = [sys.executable, "-m", "altreco_client", "gateway", "--url", url, "--port", str(port)]
    command += ["--deadline-s", str(DEADLINE_S)]

    def problem() -> str | None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)) as connection:
            try:
                connection.request("GET", "/healthz")
                return None if connection.getresponse().status == 200 else "the gateway is not ready"
            except OSError as error:
                return str(error)

    with running(command, log_path=log, stop_timeout_s=0) as process:
        wait_until_ready(process, problem, START_S)
        yield port


def _ask(connection: socket.socket, head: bytes, photo: bytes) -> object:
    """Ask over a connection that stays open. http.client would cost more of the shared cores. Raises OSError."""
    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(photo) + photo)
    answer = b""
    while not (found := ANSWER.fullmatch(answer)) or len(found[3]) < int(found[2]):
        received = connection.recv(65_536)
        if not received:
            raise OSError("the gateway closed the connection")
        answer += received
    if found[1] != b"200":
        raise OSError(f"the gateway answered {found[1].decode()}: {found[3].decode()[:500]}")
    return json.loads(found[3])


def _busy(callers: list[PhotoCaller], *, warmup_s: float, seconds: float) -> Figures:
    """Let each caller send its next request once the last one is answered."""
    closed_load(callers, seconds=warmup_s)
    load = closed_load(callers, seconds=seconds)
    return _figures(load) | {"requests_per_s": load.per_second}


@dataclass
class _Calm:
    """Loads with random arrivals, in each turn others; the same for each contestant, as each has its own."""

    settings: Settings
    rate: float
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __call__(self, callers: list[PhotoCaller]) -> Figures:
        closed_load(callers[:1], seconds=self.settings.warmup_s)
        moments = random_moments(self.rng, self.rate, self.settings.window_s) or [0.0]
        return _figures(scheduled_load(callers, moments))


def _figures(load: Load) -> Figures:
    return {"p50_ms": load.percentile_ms(50), "p99_ms": load.percentile_ms(99)}


def _photos() -> Iterator[bytes]:
    for pixels in new_pictures(seed=0):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        yield file.getvalue()


def render_gateway(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    all_columns = {"p50, ms": "p50_ms", "p99, ms": "p99_ms", "requests per second": "requests_per_s"}
    turns, calm, apart = section["turns"], section["open"], section["apart"]
    triton, others = (f"{count} core{'s' * (count > 1)}" for count in apart["cores"])
    return [
        f"{CALLERS} callers, each with a JPEG of 224 x 224 that Triton's cache has and a history of {TAGS_IN_HISTORY} "
        "tags, send their next request once the last one is answered: through the Python client in one process, or "
        "over HTTP. All share the cores, which are busy all the time, and the gateway is at the limit of one process. "
        f"{_over(turns)}",
        *_table(turns, all_columns),
        f"Random arrivals (Poisson), {number(calm['rate_per_s'])} per second, a third of the gateway's highest rate, "
        f"the same for both. {_over(calm['turns'])}",
        *_table(calm["turns"], {"p50, ms": "p50_ms", "p99, ms": "p99_ms"}),
        f"{triton} for Triton alone, and {others} for the {CALLERS} callers and the gateway. Triton computes every "
        f"picture (no cache), so it sets the pace, as in production. {_over(apart['turns'])}",
        *_table(apart["turns"], all_columns),
    ]


def _over(turns: Mapping[str, Any]) -> str:
    client, gateway = (turns[name]["p50_ms"] for name in (CLIENT, GATEWAY))
    over = [b - a for a, b in zip(client, gateway, strict=True)]
    return f"The gateway's p50 less the client's is {cell(over)} ms."


def _table(turns: Mapping[str, Any], heads: Mapping[str, str]) -> list[str]:
    rows = [[f"`{name}`", *(cell(of[key]) for key in heads.values())] for name, of in turns.items()]
    return ["", *table(["", *heads], rows), ""]
