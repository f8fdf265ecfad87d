"""The HTTP gateway against the Python client: photos that the cache has, from several callers at once."""

import http.client
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

from altreco_client import TagRecommender
from PIL import Image

from benchmark.loads import served
from benchmark.settings import Settings
from deploy.local.process import free_port, running, wait_until_ready
from export.full_size import folded
from measure.callers import Caller, closed_load
from measure.markdown import cell, number, table
from measure.requests import TAGS_IN_HISTORY, history, new_pictures
from measure.turns import by_turns

CALLERS = 16
DEADLINE_S = 30.0
START_S = 60.0
CLIENT, GATEWAY = "altreco_client", "gateway"

Ask = Callable[[bytes], object]


def measure_gateway(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Measure both on one server, in turn. Raises ExportError, ServerError."""
    repository = folded(settings.preset, configs, folder)
    with ExitStack() as stack:
        url = stack.enter_context(served({"": repository}, settings.cache_size_bytes))[""].grpc_url
        recommender = stack.enter_context(TagRecommender(url, deadline_s=DEADLINE_S))
        port = stack.enter_context(_gateway(url, folder / "gateway.log"))
        counts = history(recommender.vocabulary.tags, 0)
        query = urlencode({"history": json.dumps(counts)})
        connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S) for _ in range(CALLERS)]
        for connection in connections:
            stack.enter_context(closing(connection))
        by_client: list[Ask] = [partial(recommender.recommend, history=counts)] * CALLERS
        by_http: list[Ask] = [partial(_ask, connection, f"/v1/tags?{query}") for connection in connections]

        def over_http() -> dict[str, float]:
            for connection in connections:
                connection.close()  # the gateway closes those that are idle for as long as the client's turn
            return _load(by_http, settings)

        turns: dict[str, Callable[[], dict[str, float]]] = {
            CLIENT: partial(_load, by_client, settings),
            GATEWAY: over_http,
        }
        taken = by_turns(turns, settings.rounds, title="gateway")
    return {"turns": {name: {key: [turn[key] for turn in of] for key in of[0]} for name, of in taken.items()}}


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


def _ask(connection: http.client.HTTPConnection, path: str, photo: bytes) -> object:
    """Ask over a connection that stays open. Raises OSError for a refusal."""
    connection.request("POST", path, photo)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise OSError(f"the gateway answered {answer.status}: {body.decode()[:500]}")
    return json.loads(body)


def _load(asks: list[Ask], settings: Settings) -> dict[str, float]:
    """Load with one photo for each caller, the same in every turn; return milliseconds and requests per second."""
    callers = [Caller(ask, repeat(photo)) for ask, photo in zip(asks, _photos(), strict=False)]
    closed_load(callers, seconds=settings.warmup_s)
    load = closed_load(callers, seconds=settings.window_s)
    return {
        "p50_ms": load.percentile_ms(50),
        "p99_ms": load.percentile_ms(99),
        "requests_per_s": load.per_second,
    }


def _photos() -> Iterator[bytes]:
    for pixels in new_pictures(seed=0):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        yield file.getvalue()


def render_gateway(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    turns = section["turns"]
    client, gateway = (turns[name]["p50_ms"] for name in (CLIENT, GATEWAY))
    over = median([b - a for a, b in zip(client, gateway, strict=True)])
    heads = {"p50, ms": "p50_ms", "p99, ms": "p99_ms", "requests per second": "requests_per_s"}
    return [
        f"{CALLERS} callers, each with a JPEG of 224 x 224 that Triton's cache has and a history of {TAGS_IN_HISTORY} "
        "tags, send their next request once the last one is answered: through the Python client in one process, or "
        f"over HTTP. The gateway's p50 is {number(over)} ms above the client's.",
        "",
        *table(["", *heads], [[f"`{name}`", *(cell(of[key]) for key in heads.values())] for name, of in turns.items()]),
        "",
    ]
