"""Requests drawn from a workload, with pictures and histories prepared before the load.

A picture is a copy of one of a few base pictures, with its number and the run's number in the first pixels. Making one
takes a copy of 150 KB, and no cache holds it before this run has sent it.
"""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from altreco_client import InvalidImage, PreparedImage, prepare
from numpy.typing import NDArray
from PIL import Image

from loadtest.errors import LoadtestError
from loadtest.load.workload import Pictures, Workload, zipf_shares
from measure.requests import new_pictures

DRAWN = 8
"""Number of base pictures if there are no photos to decode."""
SUFFIXES = (".jpg", ".jpeg", ".png")
MOST_FILES = 64
"""Most files read from a folder: more would take memory and make no difference to the server."""
NEW_PICTURES = 2**40
"""First number of the new pictures, and the size of the range for each stream."""
LARGEST_COUNT = 1000
"""Largest count of a tag in a history."""
NEWCOMERS, NEWCOMER_TAGS = 100, 6
"""Number of histories of new users, and most tags in one of them."""


@dataclass(frozen=True)
class Planned:
    """A planned request: numbers of its pictures, which of them are photos to decode, and the user's history."""

    pictures: tuple[int, ...]
    decode: tuple[bool, ...]
    history: dict[str, float]

    @property
    def cold(self) -> bool:
        """Whether the user has no history."""
        return not self.history


class Payloads:
    """Base pictures, the photos that they are decoded from, and the users' histories."""

    def __init__(self, workload: Workload, tags: Sequence[str], nonce: int) -> None:
        """Prepare for the server's vocabulary `tags` and the run's number `nonce`; raises LoadtestError."""
        rng = np.random.default_rng(workload.seed)
        self.workload, self._nonce = workload, nonce
        self.photos = _photos(workload.pictures, rng)
        self._bases = [_prepared(photo) for photo in self.photos] or _drawn(workload.seed)
        short = rng.integers(1, min(NEWCOMER_TAGS, len(tags)) + 1, NEWCOMERS)
        drawn = _histories(workload, tags, np.concatenate([_lengths(workload, len(tags), rng), short]), rng)
        self.histories = drawn[:-NEWCOMERS]
        self.newcomers = [dict.fromkeys(history, 1.0) for history in drawn[-NEWCOMERS:]]

    def stream(self, number: int) -> Iterator[Planned]:
        """Yield requests without end. Equal numbers give equal requests; different numbers share no new picture."""
        workload, new = self.workload, itertools.count(NEW_PICTURES * (number + 1))
        rng = np.random.default_rng([workload.seed, number])
        pictures, users = workload.pictures, workload.users
        popularity = np.cumsum(zipf_shares(pictures.catalogue, pictures.exponent))
        activity = np.cumsum(zipf_shares(users.count, users.exponent))
        sizes = np.cumsum([batch.share for batch in workload.batches])
        while True:
            rows = workload.batches[_index(sizes, rng.random())].rows
            draws = rng.random((rows, 3)).tolist()
            yield Planned(
                tuple(next(new) if a < pictures.new_share else _index(popularity, b) for a, b, _ in draws),
                tuple(c < pictures.decode_share for _, _, c in draws),
                self._history(rng.random(), rng.random(), activity),
            )

    def _history(self, kind: float, user: float, activity: NDArray[np.float64]) -> dict[str, float]:
        """Choose the history of a user; `kind` and `user` are drawn from 0 to 1."""
        users = self.workload.users
        if kind < users.cold_share:
            return {}
        if kind < users.cold_share + users.new_share:
            return self.newcomers[int(user * NEWCOMERS)]
        return self.histories[_index(activity, user)]

    def picture(self, number: int) -> PreparedImage:
        """Make the picture with this number, ready to send."""
        return self._stamped(self._bases[number % len(self._bases)].copy(), number)

    def decoded(self, number: int) -> PreparedImage:
        """Make the same picture by decoding its photo, as a client does."""
        return self._stamped(_prepared(self.photos[number % len(self.photos)]).copy(), number)

    def sentence(self) -> str:
        """Describe the memory that they take in each process."""
        prepared = sum(base.nbytes for base in self._bases) / 1e6
        photos = sum(map(len, self.photos)) / 1e6
        decoded = f", from {len(self.photos)} photos of {photos:.1f} MB" if self.photos else ""
        return f"{len(self._bases)} prepared pictures, {prepared:.1f} MB{decoded}; {len(self.histories):,} histories"

    def _stamped(self, tensor: NDArray[np.uint8], number: int) -> PreparedImage:
        stamp = np.array([number, self._nonce], dtype=np.int64).view(np.uint8)
        tensor.reshape(-1)[: len(stamp)] = stamp
        return PreparedImage(tensor)


def _index(cumulative: NDArray[np.float64], u: float) -> int:
    return min(int(cumulative.searchsorted(u, side="right")), len(cumulative) - 1)  # the sum may end below 1


def _drawn(seed: int) -> list[NDArray[np.uint8]]:
    return [next(new_pictures([seed, number])) for number in range(DRAWN)]


def _prepared(photo: bytes) -> NDArray[np.uint8]:
    return prepare(photo).tensor


def _photos(pictures: Pictures, rng: np.random.Generator) -> list[bytes]:
    if pictures.folder:
        return _files(Path(pictures.folder))
    return [_photo(size, rng) for size in pictures.photo_sizes]


def _files(folder: Path) -> list[bytes]:
    """Read the first MOST_FILES pictures of the folder; raises LoadtestError."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)[:MOST_FILES]
        photos = [file.read_bytes() for file in files]
    except OSError as error:
        raise LoadtestError(f"pictures.folder {folder} cannot be read: {error.strerror}") from error
    if not photos:
        raise LoadtestError(f"pictures.folder {folder} has no pictures, expected {', '.join(SUFFIXES)} files")
    for file, photo in zip(files, photos, strict=True):
        try:
            prepare(photo)
        except InvalidImage as error:
            raise LoadtestError(f"pictures.folder: {file} is not a picture that the client accepts: {error}") from error
    return photos


def _photo(size: tuple[int, int], rng: np.random.Generator) -> bytes:
    """Draw a JPEG of large shapes with sensor noise, with as many bytes per pixel as a camera's."""
    shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.normal(0, 4, (size[1], size[0], 1)).astype(np.float32)
    content = io.BytesIO()
    Image.fromarray((np.asarray(shapes) + noise).clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
    return content.getvalue()


def _lengths(workload: Workload, tags: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the number of different tags of every user, int64 [users]."""
    users, history = workload.users, workload.history
    lengths = np.exp(rng.normal(np.log(history.median_tags), history.sigma, users.count))
    return lengths.round().clip(1, tags).astype(np.int64)


def _histories(
    workload: Workload, tags: Sequence[str], lengths: NDArray[np.int64], rng: np.random.Generator
) -> list[dict[str, float]]:
    """Draw the history of every user, as counts by tag; which tags are popular is drawn too."""
    history = workload.history
    counted = np.cumsum(zipf_shares(LARGEST_COUNT, history.count_exponent))
    popular = rng.permutation(len(tags))
    logarithms = np.log(zipf_shares(len(tags), history.exponent))
    histories = []
    for length in lengths:
        # Gumbel-top-k: a sample without replacement in proportion to the shares.
        chosen = popular[np.argpartition(-(logarithms + rng.gumbel(size=len(tags))), length - 1)[:length]]
        counts = [1 + _index(counted, u) for u in rng.random(length)]
        histories.append({tags[i]: float(count) for i, count in zip(chosen, counts, strict=True)})
    return histories
