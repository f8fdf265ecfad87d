"""The command line: `python -m altreco_client recommend photo.jpg --history sea:3,beach:1 -k 5`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .errors import AltrecoError, InvalidHistory
from .recommender import TagRecommender


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 1 with the reason on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        with TagRecommender(arguments.url, deadline_s=arguments.deadline_s) as recommender:
            if arguments.command == "vocabulary":
                print("\n".join(recommender.vocabulary.tags))
            else:
                _recommend(recommender, arguments)
    except AltrecoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _recommend(recommender: TagRecommender, arguments: argparse.Namespace) -> None:
    history = parse_history(arguments.history)
    for image in arguments.images:
        if len(arguments.images) > 1:
            print(f"{image}:")
        for tag in recommender.recommend(image, history, arguments.k, unknown_tags=arguments.unknown_tags).tags:
            print(f"{tag.score:.3f}  {tag.name}")


def parse_history(text: str) -> dict[str, float]:
    """`sea:3,beach` to {"sea": 3, "beach": 1}; raises InvalidHistory. A tag named twice is added up."""
    history: dict[str, float] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        tag, colon, count = entry.rpartition(":")
        if not colon:
            tag, count = entry, "1"
        try:
            history[tag] = history.get(tag, 0) + float(count)
        except ValueError as error:
            raise InvalidHistory(f"history entry {entry!r}: expected TAG:COUNT, such as sea:3") from error
    return history


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--url", default="localhost:8001", help="host:port of Triton's gRPC (default: %(default)s)")
    shared.add_argument("--deadline-s", type=float, default=5.0, help="seconds for each call (default: %(default)s)")
    parser = argparse.ArgumentParser(prog="altreco", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recommend = commands.add_parser("recommend", parents=[shared], help="print the tags for images, best first")
    recommend.add_argument("images", nargs="+", metavar="IMAGE", help="an image file")
    recommend.add_argument("--history", default="", help="the user's past tags as TAG:COUNT,... (default: none)")
    recommend.add_argument("-k", type=int, default=5, help="how many tags (default: %(default)s)")
    recommend.add_argument(
        "--unknown-tags",
        choices=("error", "ignore"),
        default="error",
        help="what to do with a history tag that the server does not know (default: %(default)s)",
    )
    commands.add_parser("vocabulary", parents=[shared], help="print the tags that the server knows")
    return parser


if __name__ == "__main__":
    sys.exit(main())
