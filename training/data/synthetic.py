"""Draw a data set of pictures and let simulated users tag them.

    python -m training.data.synthetic OUT [--pictures 3000] [--users 60] [--tags 1540] [--test-share 0.1] [--seed 7]

OUT gets `images/*.jpg` (224x224), `manifest.parquet` (image, user, tags, split: train or test), `vocabulary.txt` (one
tag a line, in the order of `build_vocabulary`: the same for every data set of that size, so that checkpoints fit) and
`settings.json`. The same settings give the same bytes, on any number of processes.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from altreco_client.cli.pipe import quiet_pipe
from tqdm import tqdm

from training.data.concepts import MIN_TAGS, build_vocabulary
from training.data.drawing import Scene, compose_scene, draw
from training.data.folder import is_free, renamed_when_complete
from training.data.manifest import MANIFEST_FILE, SCHEMA, VOCABULARY_FILE
from training.data.users import User, make_users, tag_picture
from training.errors import DataError

__all__ = ["SyntheticSettings", "User", "generate", "make_users", "tag_picture"]

SETTINGS_FILE = "settings.json"
GENERATOR = 1
"""Counts up whenever the same settings come to mean other pictures or tags."""
JPEG_QUALITY = 90
PICTURES_PER_PROCESS = 100
"""Below this, starting a process takes longer than it saves."""
TYPICAL_MINIMUM = 12
"""Pictures of the least active user, as far as there are enough."""


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """What to generate; `test_share` of each user's pictures, at least one, is held out."""

    pictures: int = 3000
    users: int = 60
    tags: int = 1540
    test_share: float = 0.1
    seed: int = 7

    def __post_init__(self) -> None:
        """Raise DataError for values that no data set can have."""
        if self.users < 1:
            raise DataError(f"{self.users} users: expected at least 1")
        if self.pictures < 2 * self.users:
            raise DataError(
                f"{self.pictures} pictures for {self.users} users: expected at least {2 * self.users}, "
                "one for training and one for testing each"
            )
        if self.tags < MIN_TAGS:
            raise DataError(f"{self.tags} tags: expected at least {MIN_TAGS}")
        if not 0 < self.test_share < 1:
            raise DataError(f"test share {self.test_share}: expected more than 0 and less than 1")
        if self.seed < 0:
            raise DataError(f"seed {self.seed}: expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One row of the manifest, and the scene to draw."""

    index: int
    user: str
    scene: Scene
    tags: list[str]
    split: str

    @property
    def image(self) -> str:
        """Path below the data set's folder."""
        return f"images/{self.index:06d}.jpg"


def generate(out: Path, settings: SyntheticSettings, *, processes: int | None = None, quiet: bool = False) -> Path:
    """Write the data set to `out` and return `out`; a complete one with the same settings is kept.

    Raises DataError if `out` holds anything else. `processes`: all cores by default; they do not change the result.
    """
    if _is_complete(out, settings):
        if not quiet:
            print(f"reusing {out}")
        return out
    vocabulary = build_vocabulary(settings.tags)
    pictures = _plan(settings, make_users(settings.users, vocabulary, settings.seed))
    with renamed_when_complete(out, SETTINGS_FILE) as folder:
        (folder / SETTINGS_FILE).write_text(_describe(settings), encoding="ascii")
        (folder / VOCABULARY_FILE).write_text("\n".join(vocabulary) + "\n", encoding="ascii")
        _write_manifest(folder / MANIFEST_FILE, pictures)
        _draw_all(folder, pictures, settings.seed, processes, quiet)
    return out


def _plan(settings: SyntheticSettings, users: tuple[User, ...]) -> list[Picture]:
    rng = np.random.default_rng([settings.seed, 0, 3])
    counts = picture_counts(settings.pictures, settings.users, rng)
    owners = rng.permutation(np.repeat(np.arange(settings.users), counts))
    held_out = _held_out(owners, settings.test_share, rng)
    pictures = []
    for index, owner in enumerate(owners.tolist()):
        user, own = users[owner], np.random.default_rng([settings.seed, index])
        scene = compose_scene(own, user.scenes)
        tags = tag_picture(user, scene, own)
        split = "test" if index in held_out else "train"
        pictures.append(Picture(index=index, user=user.name, scene=scene, tags=tags, split=split))
    return pictures


def picture_counts(pictures: int, users: int, rng: np.random.Generator) -> np.ndarray:
    """How many pictures each user has, int64 [users]: heavy-tailed, and `pictures` in sum."""
    minimum = min(TYPICAL_MINIMUM, pictures // users)
    activity = rng.lognormal(0.0, 0.9, users)
    shares = (pictures - minimum * users) * activity / activity.sum()
    counts = np.floor(shares).astype(np.int64)
    neediest = np.argsort(counts - shares, kind="stable")
    counts[neediest[: pictures - minimum * users - counts.sum()]] += 1
    return counts + minimum


def _held_out(owners: np.ndarray, share: float, rng: np.random.Generator) -> set[int]:
    held_out: set[int] = set()
    for owner in np.unique(owners):
        own = np.flatnonzero(owners == owner)
        count = min(len(own) - 1, max(1, round(share * len(own))))
        held_out.update(rng.choice(own, count, replace=False).tolist())
    return held_out


def _write_manifest(path: Path, pictures: list[Picture]) -> None:
    rows = [(picture.image, picture.user, picture.tags, picture.split) for picture in pictures]
    pl.DataFrame(rows, schema=list(SCHEMA), orient="row", infer_schema_length=None).write_parquet(path)


@dataclass(frozen=True)
class _Drawing:
    path: Path
    scene: Scene
    seed: tuple[int, ...]


def _draw_all(folder: Path, pictures: list[Picture], seed: int, processes: int | None, quiet: bool) -> None:
    (folder / "images").mkdir()
    drawings = [_Drawing(folder / p.image, p.scene, (seed, p.index, 4)) for p in pictures]
    useful = max(1, min(os.cpu_count() or 1, len(drawings) // PICTURES_PER_PROCESS))
    for _ in tqdm(
        _draw_each(drawings, processes or useful), "draw", total=len(drawings), unit="picture", disable=quiet
    ):
        pass


def _draw_each(drawings: list[_Drawing], processes: int) -> Iterator[None]:
    if processes == 1:
        yield from map(_draw_one, drawings)
        return
    # spawn: a fork would copy the locks of whatever threads (polars, torch) the caller has running.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(_draw_one, drawings, chunksize=16)


def _draw_one(drawing: _Drawing) -> None:
    draw(drawing.scene, np.random.default_rng(drawing.seed)).save(drawing.path, quality=JPEG_QUALITY)


def _describe(settings: SyntheticSettings) -> str:
    return json.dumps({"generator": GENERATOR, **asdict(settings)}, indent=2) + "\n"


def _is_complete(out: Path, settings: SyntheticSettings) -> bool:
    if is_free(out):
        return False
    found = out / SETTINGS_FILE
    if not found.is_file():
        raise DataError(f"{out} exists and is no data set of this generator: choose another folder")
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
    parser.add_argument("--pictures", type=int, default=default.pictures, help="how many pictures, of all users")
    parser.add_argument("--users", type=int, default=default.users, help="how many users; each picture has one")
    parser.add_argument("--tags", type=int, default=default.tags, help=f"size of the vocabulary, from {MIN_TAGS}")
    parser.add_argument("--test-share", type=float, default=default.test_share, help="share held out, of each user")
    parser.add_argument("--seed", type=int, default=default.seed, help="the same seed gives the same files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
