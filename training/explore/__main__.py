"""How recommended tags follow the user's history: `python -m training.explore CHECKPOINT --data DIR`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from altreco_client import AltrecoError
from altreco_client.cli.pipe import quiet_pipe
from altreco_client.text import printable_lines
from numpy.typing import NDArray

from training.checkpoint import load_with_data
from training.data.manifest import Manifest
from training.data.past import past_pictures
from training.errors import CheckpointError, DataError, SettingsError, TrainingError
from training.explore.growth import Exploration, explore
from training.explore.show import LEGEND, format_exploration, write_figure

MOST_PICTURES = 50
"""More would make a PNG that few viewers open."""


@quiet_pipe()
def main(command_line: Sequence[str] | None = None) -> int:
    """Write the PNG and print the tables; 0, or 1 with the reason on stderr."""
    arguments = _parser().parse_args(command_line)
    try:
        explorations = _explore(arguments)
        write_figure(explorations, arguments.out)
    except (TrainingError, AltrecoError) as error:
        print(f"error: {printable_lines(str(error))}", file=sys.stderr)
        return 1
    print(printable_lines("\n\n\n".join(map(format_exploration, explorations))))
    print(f"\n{LEGEND}\nThe same as a picture: {arguments.out}")
    return 0


def _explore(arguments: argparse.Namespace) -> list[Exploration]:
    checkpoint, manifest, histories = load_with_data(arguments.checkpoint, arguments.data)
    if not checkpoint.model.personalized:
        raise CheckpointError(
            f"{arguments.checkpoint} is a visual-only model, which no history changes: "
            "expected one with user preference or a history path"
        )
    if not 1 <= arguments.k <= len(manifest.vocabulary):
        raise SettingsError(f"k is {arguments.k}: expected 1 up to {len(manifest.vocabulary)}, the vocabulary's size")
    rows = _rows_of(manifest, arguments.picture) if arguments.picture else _richest(manifest, arguments.pictures)
    users = _users_of(manifest, *arguments.users) if arguments.users else None
    return [explore(checkpoint.model, manifest, histories, row, users=users, k=arguments.k) for row in rows]


def _richest(manifest: Manifest, number: int) -> list[int]:
    """Rows of test pictures with tags, each of another user, the users with the longest histories first."""
    if not 1 <= number <= MOST_PICTURES:
        raise SettingsError(f"{number} pictures: expected 1 to {MOST_PICTURES}")
    test = _test_rows(manifest)
    test = test[manifest.tags.lengths[test] > 0]
    users, first = np.unique(manifest.users[test], return_index=True)
    past = np.diff(past_pictures(manifest).offsets)
    order = np.argsort(-past[users], kind="stable")
    return test[first[order]][:number].tolist()


def _rows_of(manifest: Manifest, images: Sequence[str]) -> list[int]:
    """Rows of these test pictures; a training picture is refused, as its tags are in its owner's history."""
    rows = {manifest.images[row]: row for row in _test_rows(manifest).tolist()}
    for image in images:
        if image not in rows:
            raise DataError(
                f"{image} is not a test picture of {manifest.root}: expected the `image` of a row of split "
                f"test in its manifest, such as {next(iter(rows))}"
            )
    return [rows[image] for image in images]


def _test_rows(manifest: Manifest) -> NDArray[np.int64]:
    rows = manifest.rows("test")
    if not len(rows):
        raise DataError(f"{manifest.root} has no test pictures: expected rows of split test in its manifest")
    return rows


def _users_of(manifest: Manifest, first: str, second: str) -> tuple[int, int]:
    names = list(manifest.user_names)
    for name in (first, second):
        if name not in names:
            raise DataError(
                f"no user {name!r} in {manifest.root}: expected a `user` of its manifest, such as {names[0]}"
            )
    return names.index(first), names.index(second)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.explore",
        description="Show how the recommended tags follow the user's history: for some test pictures, the best tags as "
        "their owner's history grows from 0 to 25, 50, 75 and 100 % of the owner's past pictures, and what two "
        "users get for the same picture. As tables on stdout, and as a PNG.",
    )
    parser.add_argument(
        "checkpoint", type=Path, help="written by `python -m training.train`; its model must use histories"
    )
    parser.add_argument("--data", type=Path, required=True, help="data set folder with manifest.parquet")
    parser.add_argument("--out", type=Path, default=Path("explore.png"), help="PNG to write (default: %(default)s)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--pictures",
        type=int,
        default=4,
        metavar="N",
        help="number of test pictures, from the users with the most past pictures (default: %(default)s)",
    )
    chosen.add_argument(
        "--picture", nargs="+", metavar="IMAGE", help="these test pictures instead, as the manifest names them"
    )
    parser.add_argument(
        "--users",
        nargs=2,
        metavar="NAME",
        help="the two users who get the same picture (default: its owner and the user with the least similar history)",
    )
    parser.add_argument("-k", type=int, default=5, help="number of tags (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
