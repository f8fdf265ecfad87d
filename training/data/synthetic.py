"""Draw a data set of pictures and let simulated users tag them.

    python -m training.data.synthetic OUT [--pictures 3000] [--users 60] [--new-users 20] [--crowd 2000] ...

OUT gets `images/*.jpg` (224x224), `manifest.parquet`, `vocabulary.txt` (in the order of `build_vocabulary`: data sets
with the same number of tags have the same tags, so that checkpoints fit) and `settings.json`. The same settings give
the same bytes, on any number of processes.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from altreco_client.cli.pipe import quiet_pipe

from measure.progress import progress_bar
from training.data.concepts import MIN_TAGS, build_vocabulary
from training.data.drawing import draw
from training.data.folder import is_free, renamed_when_complete
from training.data.manifest import CONTEXT, MANIFEST_FILE, SCHEMA, VOCABULARY_FILE
from training.data.population import Drawing, SyntheticSettings, plan
from training.errors import DataError

__all__ = ["SyntheticSettings", "generate"]

SETTINGS_FILE = "settings.json"
GENERATOR = 1
"""Counts up whenever the same settings come to mean other pictures or tags."""
JPEG_QUALITY = 90
PICTURES_PER_PROCESS = 100
"""Below this, starting a process takes longer than it saves."""


def generate(out: Path, settings: SyntheticSettings, *, processes: int | None = None, quiet: bool = False) -> Path:
    """Write the data set to `out` and return `out`; a complete one with the same settings is kept.

    Raises DataError if `out` holds anything else. `processes`: all cores by default; they do not change the result.
    """
    if _is_complete(out, settings):
        if not quiet:
            print(f"reusing {out}")
        return out
    vocabulary = build_vocabulary(settings.tags)
    rows, drawings = plan(settings, vocabulary)
    with renamed_when_complete(out, SETTINGS_FILE) as folder:
        (folder / SETTINGS_FILE).write_text(_describe(settings), encoding="ascii")
        (folder / VOCABULARY_FILE).write_text("\n".join(vocabulary) + "\n", encoding="ascii")
        table = pl.DataFrame(list(map(asdict, rows)), infer_schema_length=None, schema_overrides=CONTEXT)
        table.select(*SCHEMA, *(CONTEXT if settings.context else ())).write_parquet(folder / MANIFEST_FILE)
        _draw_all(folder, drawings, processes, quiet)
    return out


def _draw_all(folder: Path, drawings: Sequence[Drawing], processes: int | None, quiet: bool) -> None:
    (folder / "images").mkdir()
    useful = max(1, min(os.cpu_count() or 1, len(drawings) // PICTURES_PER_PROCESS))
    done = _draw_each(folder, drawings, processes or useful)
    for _ in progress_bar(done, "draw", total=len(drawings), unit="picture", disable=quiet):
        pass


def _draw_each(folder: Path, drawings: Sequence[Drawing], processes: int) -> Iterator[None]:
    draw_one = partial(_draw_one, folder)
    if processes == 1:
        yield from map(draw_one, drawings)
        return
    # spawn: a fork would copy the locks of whatever threads (polars, torch) the caller has running.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(draw_one, drawings, chunksize=16)


def _draw_one(folder: Path, drawing: Drawing) -> None:
    draw(drawing.scene, np.random.default_rng(drawing.seed)).save(folder / drawing.image, quality=JPEG_QUALITY)


def _describe(settings: SyntheticSettings) -> str:
    values = asdict(settings)
    if not settings.context:
        del values["context"]  # a data set from before there was context is one without
    return json.dumps({"generator": GENERATOR, **values}, indent=2) + "\n"


def _is_complete(out: Path, settings: SyntheticSettings) -> bool:
    if is_free(out):
        return False
    found = out / SETTINGS_FILE
    if not found.is_file():
        raise DataError(f"{out} exists and is not a data set of this generator: choose another folder")
    if found.read_text(encoding="utf-8") != _describe(settings):
        wanted = " ".join(_describe(settings).split())
        present = " ".join(found.read_text(encoding="utf-8").split())
        raise DataError(f"{out} holds another data set: {present}, wanted {wanted}; remove it or choose another folder")
    return True


@quiet_pipe()
def main(arguments: Iterable[str] | None = None) -> int:
    """Generate as the command line says; 0, or 1 with the reason on stderr."""
    options = vars(_parser().parse_args(None if arguments is None else list(arguments)))
    out = options.pop("out")
    try:
        generate(out, SyntheticSettings(**options))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"data set in {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    default = SyntheticSettings()
    parser = argparse.ArgumentParser(
        prog="python -m training.data.synthetic",
        description="Draw a data set of 224x224 pictures and let simulated users tag them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to create; a complete one is kept")
    parser.add_argument("--pictures", type=int, default=default.pictures, help="pictures of all users together")
    parser.add_argument("--users", type=int, default=default.users, help="number of users; each picture has one")
    further = parser.add_argument_group("further users, who are not counted in --users and --pictures")
    further.add_argument("--new-users", type=int, default=default.new_users, help="test users whom training never sees")
    further.add_argument(
        "--validation-users",
        type=int,
        default=default.validation_users,
        help="validation users whom training never sees",
    )
    further.add_argument(
        "--crowd", type=int, default=default.crowd, help="training users with 12 to 20 pictures each from a pool"
    )
    further.add_argument("--pool", type=int, default=default.pool, help="pictures in the pool of the crowd")
    parser.add_argument("--tags", type=int, default=default.tags, help=f"size of the vocabulary, {MIN_TAGS} or more")
    parser.add_argument(
        "--test-share", type=float, default=default.test_share, help="share of each user's pictures that is held out"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="the same seed gives the same files")
    parser.add_argument(
        "--context",
        action="store_true",
        help="add when and where each picture was taken, words about it, and class labels",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
