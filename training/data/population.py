"""Who photographs what in a generated data set: scenes, their tags by each user, and the split of each picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.data.concepts import MIN_TAGS
from training.data.drawing import SETTINGS, Scene, compose_scene
from training.data.users import make_users, tag_picture
from training.errors import DataError

TYPICAL_MINIMUM = 12
"""Pictures of the least active user, if there are enough."""
CROWD_PICTURES = (12, 20)
"""Fewest and most pictures of a user of the crowd."""


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """What to generate.

    `users` have `pictures` in all: a share of each user's pictures, `test_share` and at least one, is for testing, the
    rest for training. `new_users` and `validation_users` have as many pictures each, on average, and none for training:
    the share is for testing or validation, and the rest is only their history. `crowd` users have 12 to 20 training
    pictures each, all from one pool of `pool` drawn pictures, so that several users tag the same picture.
    """

    pictures: int = 3000
    users: int = 60
    new_users: int = 0
    validation_users: int = 0
    crowd: int = 0
    pool: int = 5000
    tags: int = 1540
    test_share: float = 0.1
    seed: int = 7

    def __post_init__(self) -> None:
        """Raise DataError for values that no data set can have."""
        if self.users < 1:
            raise DataError(f"{self.users} users: expected at least 1")
        for name in ("new_users", "validation_users", "crowd"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}: expected 0 or more")
        if self.pictures < 2 * self.users:
            raise DataError(
                f"{self.pictures} pictures for {self.users} users: expected at least {2 * self.users}, "
                "one for training and one for testing each"
            )
        if self.crowd and self.pool < CROWD_PICTURES[1]:
            raise DataError(f"a pool of {self.pool} pictures: expected at least {CROWD_PICTURES[1]}")
        if self.tags < MIN_TAGS:
            raise DataError(f"{self.tags} tags: expected at least {MIN_TAGS}")
        if not 0 < self.test_share < 1:
            raise DataError(f"test share {self.test_share}: expected more than 0 and less than 1")
        if self.seed < 0:
            raise DataError(f"seed {self.seed}: expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the manifest."""

    image: str
    user: str
    tags: list[str]
    split: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A scene to draw as `image`, a path below the data set's folder, with the random numbers of `seed`."""

    image: str
    scene: Scene
    seed: tuple[int, ...]


def plan(settings: SyntheticSettings, vocabulary: Sequence[str]) -> tuple[list[Row], list[Drawing]]:
    """The rows of the manifest, and the pictures that they name.

    Adding new users, validation users or a crowd changes neither the pictures nor the tags of the other users.
    """
    groups = (
        (settings.users, "train", "test"),
        (settings.new_users, "history", "test"),
        (settings.validation_users, "history", "validation"),
    )
    rows: list[Row] = []
    drawings: list[Drawing] = []
    first_user = 0
    for number, (count, counted, held_out) in enumerate(groups):
        users = make_users(count, vocabulary, settings.seed, first=first_user)
        pictures = round(settings.pictures * count / settings.users)
        rng = np.random.default_rng([settings.seed, number, 3])
        for owner, is_held_out in _owners(pictures, count, settings.test_share, rng) if count else ():
            index = len(rows)
            user, own = users[owner], np.random.default_rng([settings.seed, index])
            scene = compose_scene(own, user.scenes)
            image, split = f"images/{index:06d}.jpg", held_out if is_held_out else counted
            rows.append(Row(image=image, user=user.name, tags=tag_picture(user, scene, own), split=split))
            drawings.append(Drawing(image=image, scene=scene, seed=(settings.seed, index, 4)))
        first_user += count
    crowd_rows, crowd_drawings = _crowd(settings, vocabulary, first_user)
    return rows + crowd_rows, drawings + crowd_drawings


def picture_counts(pictures: int, users: int, rng: np.random.Generator) -> np.ndarray:
    """How many pictures each user has, int64 [users]: heavy-tailed, and `pictures` in sum."""
    minimum = min(TYPICAL_MINIMUM, pictures // users)
    activity = rng.lognormal(0.0, 0.9, users)
    shares = (pictures - minimum * users) * activity / activity.sum()
    counts = np.floor(shares).astype(np.int64)
    neediest = np.argsort(counts - shares, kind="stable")
    counts[neediest[: pictures - minimum * users - counts.sum()]] += 1
    return counts + minimum


def _owners(pictures: int, users: int, share: float, rng: np.random.Generator) -> list[tuple[int, bool]]:
    """For each picture its user, and whether it is one of the held-out share of that user's pictures."""
    owners = rng.permutation(np.repeat(np.arange(users), picture_counts(pictures, users, rng)))
    held_out = np.zeros(pictures, dtype=np.bool_)
    for owner in np.unique(owners):
        own = np.flatnonzero(owners == owner)
        held_out[rng.choice(own, min(len(own) - 1, max(1, round(share * len(own)))), replace=False)] = True
    return list(zip(owners.tolist(), held_out.tolist(), strict=True))


def _crowd(settings: SyntheticSettings, vocabulary: Sequence[str], first: int) -> tuple[list[Row], list[Drawing]]:
    """Users who choose pictures from the pool by their taste for settings, and tag them. Only chosen ones are drawn."""
    if not settings.crowd:
        return [], []
    scenes = [compose_scene(np.random.default_rng([settings.seed, i, 6])) for i in range(settings.pool)]
    names = list(SETTINGS)
    places = np.array([names.index(scene.setting) for scene in scenes])
    alike = np.bincount(places, minlength=len(names))
    rows: list[Row] = []
    chosen: set[int] = set()
    for number, user in enumerate(make_users(settings.crowd, vocabulary, settings.seed, first=first)):
        rng = np.random.default_rng([settings.seed, number, 5])
        own = replace(user, name=f"crowd{number:04d}")
        weights = np.array([own.scenes[name] for name in names])[places] / alike[places]
        count = rng.integers(CROWD_PICTURES[0], CROWD_PICTURES[1] + 1)
        for i in rng.choice(settings.pool, count, replace=False, p=weights / weights.sum()).tolist():
            rows.append(Row(image=_pooled(i), user=own.name, tags=tag_picture(own, scenes[i], rng), split="train"))
            chosen.add(i)
    return rows, [Drawing(image=_pooled(i), scene=scenes[i], seed=(settings.seed, i, 7)) for i in sorted(chosen)]


def _pooled(index: int) -> str:
    return f"images/pool-{index:05d}.jpg"
