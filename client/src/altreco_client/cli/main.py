"""Recommend image tags with Triton, for example: `altreco recommend photo.jpg --history sea:3,beach -k 5`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ..channel import Channel
from ..errors import AltrecoError, InvalidImage
from ..results import Recommendation
from ..sync import TagRecommender
from ..text import printable
from . import connection, gateway
from .doctor import Check, examine
from .history import HISTORY_HELP, add_parser, load_history
from .history import run as run_history
from .pipe import quiet_pipe
from .wording import in_options

if TYPE_CHECKING:
    from ..settings import ClientSettings


@quiet_pipe()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Return 0, or 1 with the error on stderr."""
    arguments = parser().parse_args(argv)
    logging.getLogger("altreco_client").addHandler(logging.NullHandler())  # the command says itself what is logged
    try:
        if arguments.command == "history":
            run_history(arguments)
            return 0
        if arguments.command == "gateway":
            gateway.run(arguments, _settings(arguments))
            return 0
        with TagRecommender(arguments.url, **_settings(arguments)) as recommender:
            return int(arguments.run(recommender, arguments))
    except AltrecoError as error:
        print(f"error: {in_options(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _settings(arguments: argparse.Namespace) -> ClientSettings:
    return {
        "deadline_s": arguments.deadline_s,
        "channel": Channel(tls=connection.tls(arguments), use_proxy=arguments.use_proxy),
        "headers": connection.headers(arguments),
    }


def _recommend(recommender: TagRecommender, arguments: argparse.Namespace) -> int:
    history, code = load_history(arguments.history), 0
    for image in arguments.images:
        try:
            answer = recommender.recommend(
                image,
                history,
                arguments.k,
                unknown_tags=arguments.unknown_tags,
                fallback=arguments.fallback,
                request_id=arguments.request_id,
            )
        except InvalidImage as error:  # the other images have their tags all the same
            print(f"error: {in_options(error)}", file=sys.stderr)
            code = 1
            continue
        if arguments.json:
            print(json.dumps(_as_json(image, answer)))
        else:
            _print(image if len(arguments.images) > 1 else "", answer)
    return code


def _as_json(image: str, answer: Recommendation) -> dict[str, Any]:
    return {
        "image": image,
        "tags": [{"name": tag.name, "score": tag.score} for tag in answer.tags],
        "model_version": answer.model_version,
        "request_id": answer.request_id,
        "unknown_tags": answer.unknown_tags,
        "fallback": None if answer.fallback is None else in_options(answer.fallback),
    }


def _print(title: str, answer: Recommendation) -> None:
    if title:
        print(f"{printable(title)}:")
    if answer.fallback is not None:
        reason = in_options(answer.fallback)
        print(f"warning: these are the user's own tags, not the model's: {reason}", file=sys.stderr)
    for tag in answer.tags:
        print(f"{tag.score:.3f}  {printable(tag.name)}")


def _vocabulary(recommender: TagRecommender, arguments: argparse.Namespace) -> int:
    tags = recommender.vocabulary.tags
    print(json.dumps({"tags": tags}) if arguments.json else "\n".join(map(printable, tags)))
    return 0


def _doctor(recommender: TagRecommender, arguments: argparse.Namespace) -> int:
    checks = []
    for check in examine(recommender, arguments.image):
        checks.append(check)
        if not arguments.json:
            print(_check_line(check), flush=True)
    if arguments.json:
        print(json.dumps({"ok": all(check.ok for check in checks), "checks": [vars(check) for check in checks]}))
    return 0 if all(check.ok for check in checks) else 1


def _check_line(check: Check) -> str:
    ms = "" if check.ms is None else f"{check.ms:.2f} ms"
    return f"{'ok' if check.ok else 'FAIL':<4}  {check.name:<18}  {ms:>10}  {check.detail}"


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    altreco = argparse.ArgumentParser(prog="altreco", description=__doc__)
    altreco.add_argument("--version", action="version", version=f"altreco-client {_version()}")
    commands = altreco.add_subparsers(dest="command", required=True)
    connected = _server_options()
    server = argparse.ArgumentParser(add_help=False, parents=[connected])
    server.add_argument("--json", action="store_true", help="print JSON, one object per line")

    recommend = commands.add_parser("recommend", parents=[server], help="print tags for images, best first")
    recommend.add_argument("images", nargs="+", metavar="IMAGE", help="an image file")
    recommend.add_argument("--history", default="", help=f"{HISTORY_HELP} (default: none)")
    recommend.add_argument("-k", type=int, default=5, help="number of tags (default: %(default)s)")
    recommend.add_argument(
        "--unknown-tags",
        choices=("error", "ignore"),
        help="how to handle history tags that the server does not know (default: ignore in a file, error otherwise)",
    )
    recommend.add_argument(
        "--fallback",
        choices=("history",),
        help="print the most frequent tags of the history if the server cannot answer",
    )
    recommend.add_argument("--request-id", metavar="ID", help="id for Triton's log (default: random)")
    recommend.set_defaults(run=_recommend)

    vocabulary = commands.add_parser("vocabulary", parents=[server], help="print the tags that the server knows")
    vocabulary.set_defaults(run=_vocabulary)

    doctor = commands.add_parser(
        "doctor", parents=[server], help="check the server and show where a request spends its time"
    )
    doctor.add_argument(
        "image", nargs="?", metavar="IMAGE", help="image to send, whose decoding is timed too (default: random noise)"
    )
    doctor.set_defaults(run=_doctor)

    gateway.add_parser(commands, connected)
    add_parser(commands)
    return altreco


def _version() -> str:
    try:
        return metadata.version("altreco-client")
    except metadata.PackageNotFoundError:
        return "from a source tree, not installed"


def _server_options() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--url", default="localhost:8001", help="host:port of Triton's gRPC (default: %(default)s)")
    shared.add_argument(
        "--deadline-s", type=float, default=5.0, help="deadline of each call in seconds (default: %(default)s)"
    )
    shared.add_argument(
        "--use-proxy",
        action="store_true",
        help="connect through the proxy in grpc_proxy, https_proxy or http_proxy",
    )
    connection.add_options(shared)
    return shared
