"""The gateway's application in this process, and requests to a gateway."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from altreco_client import AsyncTagRecommender
from altreco_client.gateway.app import create_app
from altreco_client.gateway.limits import Limits
from altreco_client.gateway.serve import options
from fastapi import FastAPI

from measure.waiting import wait_until
from tests.end_to_end.faults import WAIT_S
from tests.end_to_end.http_service import Answer, ask, jpeg

HISTORY = {"tag-1": 3, "tag-2": 1}
JSON = {"Content-Type": "application/json"}
PHOTO = jpeg(3)


@contextmanager
def running(app: FastAPI, **more: Any) -> Iterator[str]:
    """The application in a thread; its address."""
    server = uvicorn.Server(uvicorn.Config(app, **options(host="127.0.0.1", port=0, log_level="warning", **more)))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the gateway", seconds=WAIT_S)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def over(url: str, limits: Limits | None = None, **settings: Any) -> FastAPI:
    return create_app(AsyncTagRecommender(url, **settings), limits=limits, deadline_s=WAIT_S)


def tags(address: str, query: str = "", headers: dict[str, str] | None = None, body: bytes = PHOTO) -> Answer:
    return ask(address, f"/v1/tags{query}", body, headers)


def failed(answer: Answer, status: int, error: str) -> str:
    """The problem's words, after a look at the rest of it."""
    assert (answer.status, answer.json["error"]) == (status, error), answer.text
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    return answer.json["detail"]
