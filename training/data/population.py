"""Who photographs what in a generated data set: scenes, their tags by each user, and the split of each picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from training.data.concepts import MIN_TAGS
from training.data.drawing import SETTINGS, Scene, compose_scene
from training.data.journeys import REPLACED, journey, labels
from training.data.users import MAX_TAGS_PER_PICTURE, User, make_users, tag_picture
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
    pictures each, all from one pool of `pool` drawn pictures, so that several users tag the same picture. `context`
    adds when and where each picture was taken, words that the users say about it, and class labels; it also takes words
    away, so that a picture may have fewer than 4 tags.
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
    context: bool = False

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
    taken: datetime | None = None
    longitude: float | None = None
    latitude: float | None = None
    labels: list[str] | None = None


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
    people: list[User] = []
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
        people += users
        first_user += count
    members = make_users(settings.crowd, vocabulary, settings.seed, first=first_user)
    crowd = [replace(user, name=f"crowd{number:04d}") for number, user in enumerate(members)]
    crowd_rows, crowd_drawings = _crowd(settings, crowd)
    rows, drawings = rows + crowd_rows, drawings + crowd_drawings
    if settings.context:
        rows = _in_context(rows, drawings, [*people, *crowd], settings, frozenset(vocabulary))
    return rows, drawings


def _in_context(
    rows: Sequence[Row],
    drawings: Sequence[Drawing],
    people: Sequence[User],
    settings: SyntheticSettings,
    known: frozenset[str],
) -> list[Row]:
    """Take each user's pictures on a journey: words of time and place for habits, and held out whole trips."""
    drawn = {drawing.image: drawing for drawing in drawings}
    of_user: dict[str, list[int]] = {user.name: [] for user in people}
    for i, row in enumerate(rows):
        of_user[row.user].append(i)
    changed = list(rows)
    for user in people:
        mine = of_user[user.name]
        shots, held = journey(user, [drawn[rows[i].image].scene for i in mine], settings.test_share, settings.seed)
        splits = sorted({rows[i].split for i in mine}, key=("train", "history", "test", "validation").index)
        for place, (i, shot) in enumerate(zip(mine, shots, strict=True)):
            kept = [tag for tag in rows[i].tags if tag not in user.habits or tag not in REPLACED]
            said = [word for word in shot.words if word in known]
            drawing = drawn[rows[i].image]
            changed[i] = replace(
                rows[i],
                tags=list(dict.fromkeys([*kept, *said]))[:MAX_TAGS_PER_PICTURE],
                split=splits[-1] if place in held else splits[0],
                taken=shot.taken,
                longitude=shot.longitude,
                latitude=shot.latitude,
                labels=labels(drawing.scene, drawing.seed),
            )
    return changed


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


def _crowd(settings: SyntheticSettings, users: Sequence[User]) -> tuple[list[Row], list[Drawing]]:
    """Users who choose pictures from the pool by their taste for settings, and tag them. Only chosen ones are drawn."""
    if not settings.crowd:
        return [], []
    scenes = [compose_scene(np.random.default_rng([settings.seed, i, 6])) for i in range(settings.pool)]
    names = list(SETTINGS)
    places = np.array([names.index(scene.setting) for scene in scenes])
    alike = np.bincount(places, minlength=len(names))
    rows: list[Row] = []
    chosen: set[int] = set()
    for number, own in enumerate(users):
        rng = np.random.default_rng([settings.seed, number, 5])
        weights = np.array([own.scenes[name] for name in names])[places] / alike[places]
        count = rng.integers(CROWD_PICTURES[0], CROWD_PICTURES[1] + 1)
        for i in rng.choice(settings.pool, count, replace=False, p=weights / weights.sum()).tolist():
            rows.append(Row(image=_pooled(i), user=own.name, tags=tag_picture(own, scenes[i], rng), split="train"))
            chosen.add(i)
    return rows, [Drawing(image=_pooled(i), scene=scenes[i], seed=(settings.seed, i, 7)) for i in sorted(chosen)]


def _pooled(index: int) -> str:
    return f"images/pool-{index:05d}.jpg"
