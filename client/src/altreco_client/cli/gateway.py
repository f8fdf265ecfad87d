"""Answer HTTP requests for tags, so that callers need no client: `curl --data-binary @photo.jpg HOST:8080/v1/tags`."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..aio import AsyncTagRecommender
from ..channel import MOST_PORT
from ..errors import InvalidRequest

if TYPE_CHECKING:
    from ..settings import ClientSettings

MISSING = "`altreco gateway{option}` needs more packages ({name} is missing): pip install 'altreco-client[{extra}]'"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser], server: argparse.ArgumentParser) -> None:
    """Add the `gateway` command; `server` has the options of the connection to Triton."""
    parser = commands.add_parser(
        "gateway", parents=[server], help="answer HTTP requests for callers in any language", description=__doc__
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; the gateway asks for no key (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=8080, help="port to listen on (default: %(default)s)")
    parser.add_argument("--store", metavar="URL", help="database with users' histories, for the header X-User")
    parser.add_argument("--openapi", action="store_true", help="print the OpenAPI document, and do nothing else")


def run(arguments: argparse.Namespace, settings: ClientSettings) -> None:
    """Serve until a signal. Raises InvalidRequest."""
    if not 0 <= arguments.port <= MOST_PORT:
        raise InvalidRequest(f"--port is {arguments.port}: expected 0 to {MOST_PORT:,}; 0 takes a free one")
    try:
        from ..gateway.app import create_app  # noqa: PLC0415 - optional
        from ..gateway.serve import serve  # noqa: PLC0415
    except ImportError as error:
        raise InvalidRequest(MISSING.format(option="", name=error.name, extra="gateway")) from error
    settings["opentelemetry"] = True
    recommender = AsyncTagRecommender(arguments.url, **settings)
    if arguments.openapi:
        print(json.dumps(create_app(recommender).openapi(), indent=2))
        return
    with ExitStack() as stack:
        users = None
        if arguments.store is not None:
            try:
                from ..histories import Histories  # noqa: PLC0415 - optional
            except ImportError as error:
                words = MISSING.format(option=" --store", name="SQLAlchemy", extra="gateway,histories")
                raise InvalidRequest(words) from error
            users = stack.enter_context(Histories(arguments.store, create=False))
        serve(recommender, users, host=arguments.host, port=arguments.port, deadline_s=arguments.deadline_s)
