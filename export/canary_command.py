"""`python -m export canary`: its options, and what they run."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.access import access_of, add_access_options
from export.errors import VocabularyError
from export.repository import label_lines, labels_file

if TYPE_CHECKING:
    from export.acceptance import Acceptance
    from export.golden import Inputs

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_canary(commands: "Commands", shared: argparse.ArgumentParser) -> None:
    """Add the command and its own commands; each sets `run`, which returns what to print, and compare's exit code."""
    canary = commands.add_parser("canary", help="try a release on a share of the users, beside the served one")
    steps = canary.add_subparsers(dest="step", required=True, metavar="STEP")

    start = _add(steps, shared, "start", _move, "load a candidate beside the served release")
    start.add_argument("--to", type=int, required=True, help="release to try")
    compare = _add(
        steps, shared, "compare", _compare, "compare them; exit code 0: better or equal, 1: worse, 2: too little yet"
    )
    _add_compare(compare)
    promote = _add(steps, shared, "promote", _move, "roll the candidate out to all users")
    stop = _add(steps, shared, "stop", _move, "unload the candidate; the served release answers its users")
    for step in (start, promote, stop):
        step.add_argument(
            "--drain-timeout-s", type=float, default=60.0, help="seconds to wait for requests in progress (%(default)s)"
        )


def _move(arguments: argparse.Namespace) -> str:
    """Start, promote or stop."""
    from export import canary  # noqa: PLC0415 - imports onnx, which most commands do not need

    moves: dict[str, Callable[..., str]] = {"start": canary.start, "promote": canary.promote, "stop": canary.stop}
    to = {"to": arguments.to} if arguments.step == "start" else {}
    return moves[arguments.step](
        arguments.url,
        arguments.repository,
        **to,
        drain_timeout_s=arguments.drain_timeout_s,
        access=access_of(arguments),
    )


def _compare(arguments: argparse.Namespace) -> tuple[str, int]:
    from export.acceptance import from_parquet, from_prometheus  # noqa: PLC0415
    from export.compare import Limits, compare  # noqa: PLC0415

    acceptance: Callable[[int, int, int], Acceptance] | None = None
    if arguments.acceptance:
        acceptance = lambda release, candidate, _: from_parquet(arguments.acceptance, release, candidate)  # noqa: E731
    elif arguments.prometheus:
        acceptance = partial(from_prometheus, arguments.prometheus)
    compared = compare(
        arguments.url,
        arguments.repository,
        given=_given(arguments),
        requests=arguments.requests,
        acceptance=acceptance,
        prometheus=arguments.prometheus,
        limits=Limits(difference=arguments.difference, slower=arguments.slower),
        access=access_of(arguments),
    )
    return str(compared), compared.code


def _given(arguments: argparse.Namespace) -> "Inputs | None":
    """The test pictures of the data set, with their users' histories."""
    if arguments.data is None:
        return None
    from export.quality import tested_inputs  # noqa: PLC0415 - imports torch
    from training.data.histories import build_histories  # noqa: PLC0415
    from training.data.manifest import read_manifest  # noqa: PLC0415

    manifest = read_manifest(arguments.data)
    labels = labels_file(arguments.repository)
    if labels.read_text(encoding="utf-8") != label_lines(manifest.vocabulary.tags):
        raise VocabularyError(f"{arguments.data} has another vocabulary than {labels}: expected a data set of the same")
    return tested_inputs(manifest, build_histories(manifest), arguments.requests)


def _add_compare(step: argparse.ArgumentParser) -> None:
    step.add_argument("--data", type=Path, help="data set whose test pictures are sent too (default: only golden set)")
    step.add_argument("--requests", type=int, default=200, help="requests that are sent to both (%(default)s)")
    step.add_argument("--prometheus", metavar="URL", help="Prometheus with Triton's metrics and those of `accepted()`")
    step.add_argument(
        "--acceptance", type=Path, metavar="PARQUET", help="rows of user, release, suggested, accepted; not Prometheus"
    )
    step.add_argument(
        "--difference", type=float, default=0.02, help="allowed loss of accepted tags, of all suggested (%(default)s)"
    )
    step.add_argument("--slower", type=float, default=0.2, help="allowed rise of a latency, as a share (%(default)s)")


def _add(
    steps: "Commands",
    shared: argparse.ArgumentParser,
    name: str,
    run: Callable[[argparse.Namespace], object],
    about: str,
) -> argparse.ArgumentParser:
    step: argparse.ArgumentParser = steps.add_parser(name, parents=[shared], help=about)
    step.set_defaults(run=run)
    step.add_argument(
        "--url",
        action="append",
        required=True,
        help="host:port of the gRPC endpoint of a Triton in explicit model control mode; once for each replica",
    )
    add_access_options(step)
    return step
