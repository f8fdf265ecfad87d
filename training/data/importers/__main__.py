"""Import data into a data set folder: `python -m training.data.importers nus-wide|parallel-text|yfcc100m --help`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from altreco_client.cli.pipe import quiet_pipe

from training.data.importers.build import ImportSettings, Layout, import_data
from training.data.importers.nus_wide import NusWide
from training.data.importers.parallel_text import ParallelText
from training.data.importers.yfcc100m import Yfcc100m
from training.errors import DataError


@quiet_pipe()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 with the reason on stderr."""
    options = vars(_parser().parse_args(arguments))
    make_layout = options.pop("layout")
    try:
        settings = ImportSettings(**{field.name: options.pop(field.name) for field in fields(ImportSettings)})
        layout: Layout = make_layout(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        )
        report = import_data(layout, settings)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    print(f"data set in {settings.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--out", type=Path, required=True, help="folder to create")
    common.add_argument("--images", type=Path, help="folder of the images, to check each of them (default: no check)")
    common.add_argument("--decode", action="store_true", help="check all pixels of --images, not the headers alone")
    common.add_argument(
        "--max-bad-share",
        type=float,
        default=0.05,
        help="stop if a larger share of lines is bad (%(default)s)",
    )
    for split, published in (("train", 2), ("test", 5)):
        common.add_argument(
            f"--min-tags-{split}",
            type=int,
            default=1,
            metavar="N",
            help=f"leave out {split} pictures with fewer tags (%(default)s; {published} in ConTagNet's comparison)",
        )
    common.add_argument("--with-context-only", action="store_true", help="leave out pictures without date or place")
    parser = argparse.ArgumentParser(prog="python -m training.data.importers", description=__doc__)
    layouts = parser.add_subparsers(required=True, metavar="nus-wide|parallel-text|yfcc100m")
    _add_nus_wide(layouts.add_parser("nus-wide", parents=[common], help="NUS-WIDE with its 1,000 user tags"))
    _add_parallel_text(layouts.add_parser("parallel-text", parents=[common], help="the paper's authors' text files"))
    _add_yfcc100m(layouts.add_parser("yfcc100m", parents=[common], help="YFCC100M's metadata"))
    return parser


def _add_nus_wide(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(layout=NusWide)
    parser.add_argument("--tag-list", type=Path, required=True, help="TagList1k.txt")
    tags = parser.add_mutually_exclusive_group(required=True)
    tags.add_argument("--tag-matrix", type=Path, help="AllTags1k.txt")
    tags.add_argument("--tag-lines", type=Path, help="All_Tags.txt, in place of the matrix")
    parser.add_argument("--image-list", type=Path, required=True, help="Imagelist.txt")
    parser.add_argument("--train-list", type=Path, required=True, help="TrainImagelist.txt")
    parser.add_argument("--test-list", type=Path, required=True, help="TestImagelist.txt")
    parser.add_argument("--users", type=Path, required=True, help="file with a photo id and a user id per line")
    parser.add_argument("--context", type=Path, help="file with photo id, date and time, longitude, latitude, by tabs")
    parser.add_argument("--labels", type=Path, help="folder AllLabels with the 81 concepts")


def _add_parallel_text(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(layout=ParallelText)
    parser.add_argument(
        "--train",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="train split: IMAGES TAGS USERS [CONTEXT]",
    )
    parser.add_argument(
        "--test",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="test split: IMAGES TAGS [USERS [CONTEXT]]",
    )
    parser.add_argument("--vocabulary", dest="vocabulary_file", type=Path, required=True, help="one tag per line")
    parser.add_argument("--strip-prefix", default="", help="prefix to remove from the images' paths")


def _add_yfcc100m(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(layout=Yfcc100m)
    parser.add_argument("metadata", type=Path, nargs="+", help="yfcc100m_dataset-0.bz2 and so on")
    parser.add_argument("--vocabulary", dest="vocabulary_file", type=Path, required=True, help="one tag per line")
    parser.add_argument("--image", default="{id}.jpg", help="path of an image with the photo's {id} (%(default)s)")
    test = parser.add_mutually_exclusive_group(required=True)
    test.add_argument("--test-ids", type=Path, help="photo ids of the test split, one per line")
    test.add_argument("--test-share", type=float, default=0.0, help="share of the photos, chosen by a hash of their id")


if __name__ == "__main__":
    sys.exit(main())
