"""Make, inspect, roll out and roll back the releases of a Triton model repository.

    python -m export release CHECKPOINT      export, check, publish as the next version
    python -m export rollout --url HOST:PORT switch a running server to it, without a failed request

If a gate refuses a release or a command fails, the serving release stays as it is, the exit code is 1 and the reason
is on stderr.
"""

import argparse
import sys
from pathlib import Path

from altreco_client import InvalidRequest
from altreco_client.cli.pipe import quiet_pipe
from altreco_client.text import printable_lines

from deploy.access import access_of, add_access_options
from export.canary_command import add_canary
from export.catalogue import diff_releases, list_releases, prune, rollback, show_release
from export.config import released_version
from export.errors import ExportError
from export.manifest import PRECISIONS, to_json
from export.repository import find_manifest, find_version
from training.errors import TrainingError
from training.presets import SIZES


@quiet_pipe()
def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit code: 0, or 1 with the reason on stderr; `canary compare` has its own."""
    arguments = _parser().parse_args(argv)
    try:
        said = arguments.run(arguments)
        text, code = said if isinstance(said, tuple) else (said, 0)
        print(printable_lines(text))
    except (ExportError, TrainingError, InvalidRequest) as error:
        print(f"error: {printable_lines(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the serving release is unchanged", file=sys.stderr)
        return 130
    return code


def _release(arguments: argparse.Namespace) -> str:
    from export.release import Options, release  # noqa: PLC0415 - imports torch, which most commands do not need

    options = Options(
        precision=arguments.precision,
        data=arguments.data,
        quality_pictures=arguments.quality_pictures,
        variant=arguments.variant,
        again=arguments.again,
    )
    return str(release(arguments.checkpoint, arguments.repository, options))


def _init(arguments: argparse.Namespace) -> str:
    from export.init import init_repository  # noqa: PLC0415

    init_repository(arguments.directory, arguments.vocabulary, like=arguments.like)
    command = f".venv/bin/python -m export release CHECKPOINT --repository {arguments.directory}"
    return f"wrote {arguments.directory}; next: {command}"


def _list(arguments: argparse.Namespace) -> str:
    return list_releases(arguments.repository)


def _show(arguments: argparse.Namespace) -> str:
    number = arguments.version if arguments.version is not None else released_version(arguments.repository)
    if number is None:
        return list_releases(arguments.repository)
    manifest = find_manifest(arguments.repository, number)
    if arguments.json:
        return to_json(manifest).rstrip()
    return show_release(manifest, find_version(arguments.repository, number))


def _diff(arguments: argparse.Namespace) -> str:
    return diff_releases(arguments.repository, arguments.first, arguments.second)


def _rollback(arguments: argparse.Namespace) -> str:
    return rollback(arguments.repository, arguments.to)


def _prune(arguments: argparse.Namespace) -> str:
    from export.served import loaded_releases  # noqa: PLC0415

    access = access_of(arguments)
    in_use = frozenset(number for url in arguments.url for number in loaded_releases(url, access))
    return prune(arguments.repository, arguments.keep, in_use)


def _verify(arguments: argparse.Namespace) -> str:
    from export.verify import verify, verify_served  # noqa: PLC0415

    repository, number, allowed = arguments.repository, arguments.version, arguments.allowed
    gates = []
    if arguments.url is None or arguments.public_key or arguments.variant:
        checks = {"variant": arguments.variant, "public_key": arguments.public_key}
        gates.append(verify(repository, number, allowed=allowed, **checks))
    if arguments.url is not None:
        gates.append(verify_served(repository, arguments.url, number, allowed=allowed, access=access_of(arguments)))
    return "\n".join(map(str, gates))


def _sign(arguments: argparse.Namespace) -> str:
    from export.signature import sign  # noqa: PLC0415

    return f"signed {arguments.repository}: {sign(arguments.repository, arguments.private_key)}"


def _rollout(arguments: argparse.Namespace) -> str:
    from export.rollout import rollout  # noqa: PLC0415

    moved = rollout(
        arguments.url,
        arguments.repository,
        to=arguments.to,
        allowed=arguments.allowed,
        drain_timeout_s=arguments.drain_timeout_s,
        access=access_of(arguments),
    )
    return str(moved)


def _probe(arguments: argparse.Namespace) -> str:
    from export.probe import write_requests  # noqa: PLC0415

    folder = write_requests(arguments.repository, allowed=arguments.allowed)
    return f"{len(list(folder.glob('*.request')))} requests in {folder}"


def _random(arguments: argparse.Namespace) -> str:
    from export.full_size import random_repository  # noqa: PLC0415

    random_repository(arguments.directory, arguments.configs, arguments.preset)
    return f"wrote {arguments.directory}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="Triton model repository (%(default)s)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("release", parents=[shared], help="publish a checkpoint as the next release")
    command.set_defaults(run=_release)
    command.add_argument("checkpoint", type=Path, help="checkpoint written by `python -m training.train`")
    command.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="fp16 is for GPUs, int8 for CPUs (%(default)s)"
    )
    _add_variant(command)
    command.add_argument("--again", action="store_true", help="release the pinned checkpoint anew, for changed configs")
    command.add_argument("--data", type=Path, help="data set to measure on (default: the training data)")
    command.add_argument(
        "--quality-pictures",
        type=int,
        default=1000,
        help="measure precision@5 on at most this many test pictures (%(default)s)",
    )

    command = commands.add_parser("init", help="write the configs of a new repository, for another vocabulary")
    command.set_defaults(run=_init)
    command.add_argument("directory", type=Path, help="the new repository")
    command.add_argument("--vocabulary", type=Path, required=True, help="text file with one tag per line")
    command.add_argument(
        "--like", type=Path, default=Path("model_repository"), help="repository to copy the configs from (%(default)s)"
    )

    command = commands.add_parser("list", parents=[shared], help="list all releases with size, precision@5 and state")
    command.set_defaults(run=_list)

    command = commands.add_parser("show", parents=[shared], help="show a release's manifest")
    command.set_defaults(run=_show)
    command.add_argument("version", type=int, nargs="?", help="release number (default: the pinned release)")
    command.add_argument("--json", action="store_true", help="print release.json")

    command = commands.add_parser("diff", parents=[shared], help="show the differences between two releases")
    command.set_defaults(run=_diff)
    command.add_argument("first", type=int)
    command.add_argument("second", type=int)

    command = commands.add_parser("rollback", parents=[shared], help="pin an earlier release again")
    command.set_defaults(run=_rollback)
    command.add_argument("--to", type=int, required=True, help="release to pin")

    command = commands.add_parser("prune", parents=[shared], help="remove the weights of old releases")
    command.set_defaults(run=_prune)
    command.add_argument(
        "--keep", type=int, required=True, help="newest releases to keep; 2 or more, so that you can roll back"
    )
    command.add_argument(
        "--url",
        action="append",
        default=[],
        help="keep what the server at host:port has loaded; may be repeated",
    )
    add_access_options(command)

    _add_verify(commands, shared)
    command = commands.add_parser("rollout", parents=[shared], help="switch a running server without a failed request")
    command.set_defaults(run=_rollout)
    _add_allowed(command)
    command.add_argument(
        "--url", required=True, help="host:port of the gRPC endpoint of a Triton in explicit model control mode"
    )
    command.add_argument("--to", type=int, help="release to serve (default: the pinned release)")
    command.add_argument(
        "--drain-timeout-s",
        type=float,
        default=60.0,
        help="seconds to wait for the old release's requests (%(default)s)",
    )
    add_access_options(command)

    add_canary(commands, shared)
    _add_sign(commands, shared)
    _add_probe(commands)
    _add_random(commands)
    return parser


def _add_verify(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    command = commands.add_parser("verify", parents=[shared], help="check the files of a release, or a running server")
    command.set_defaults(run=_verify)
    _add_allowed(command)
    _add_variant(command)
    command.add_argument("--version", type=int, help="release number (default: the pinned release)")
    command.add_argument(
        "--public-key", type=Path, metavar="PEM", help="refuse a repository that was not signed with this key's pair"
    )
    command.add_argument("--url", help="host:port of Triton's gRPC endpoint: replay the golden set on this server")
    add_access_options(command)


def _add_sign(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser("sign", parents=[shared], help="sign the repository as a cluster will read it")
    command.set_defaults(run=_sign)
    command.add_argument(
        "--private-key", type=Path, required=True, metavar="PEM", help="EC key (P-256, P-384 or P-521), unencrypted"
    )


def _add_probe(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("probe", help="write the golden set as requests for the container's startup probe")
    command.set_defaults(run=_probe)
    command.add_argument(
        "repository", type=Path, nargs="?", default=Path("model_repository"), metavar="MODEL_REPOSITORY"
    )
    command.add_argument(
        "--allowed", type=float, help="largest accepted difference of a probability (default: the release's)"
    )


def _add_random(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("random", help="make a repository with random weights, for load tests")
    command.set_defaults(run=_random)
    command.add_argument("directory", type=Path, help="the new repository; an existing one is replaced")
    command.add_argument(
        "--configs",
        type=Path,
        default=Path("model_repository"),
        help="repository to copy the configs from (%(default)s)",
    )
    command.add_argument("--preset", choices=tuple(SIZES), default="paper", help="size of the model (%(default)s)")


def _add_allowed(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--allowed",
        type=float,
        help="largest accepted difference to the golden set (default: the release's)",
    )


def _add_variant(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--variant", metavar="NAME", help="refuse a release whose precision does not suit configs/NAME.pbtxt"
    )


if __name__ == "__main__":
    sys.exit(main())
