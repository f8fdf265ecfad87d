"""The generator's context: the words of time and place are in it, and in nothing else that a model sees."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from training.data.concepts import CONCEPTS, COORDINATES, MONTHS, PLACES, TIMES, YEARS, build_vocabulary
from training.data.drawing import Scene, compose_scene
from training.data.journeys import SEASONS, Shot, journey, time_words
from training.data.manifest import read_manifest
from training.data.population import Drawing, Row, SyntheticSettings, plan
from training.data.synthetic import generate, main
from training.data.users import _habits, make_users

SETTINGS = SyntheticSettings(pictures=1200, users=60, test_share=0.25, seed=5, context=True)
VOCABULARY = build_vocabulary(SETTINGS.tags)
PLACE_WORDS = frozenset().union(*PLACES)
TIME_WORDS = frozenset((*TIMES, *MONTHS, *YEARS))

Travelled = list[tuple[Row, Drawing, Shot]]


@dataclass(frozen=True)
class Taken:
    """One picture of somebody's journey. Anybody may have any scene, so that no place tells a user's taste."""

    user: int
    scene: Scene
    shot: Shot
    test: bool


@pytest.fixture(scope="module")
def pictures() -> list[Taken]:
    """12,000 pictures of 100 users."""
    scenes = [compose_scene(np.random.default_rng(i)) for i in range(1500)]
    somebody = make_users(1, VOCABULARY, seed=3)[0]
    taken = []
    for user in range(100):
        own = [scenes[i] for i in np.random.default_rng(user).integers(len(scenes), size=120)]
        shots, held = journey(replace(somebody, number=user), own, 0.3, seed=3)
        taken += [Taken(user, *pair, i in held) for i, pair in enumerate(zip(own, shots, strict=True))]
    return taken


@pytest.fixture(scope="module")
def travelled() -> Travelled:
    """Each picture's row and drawing, with what is true of its time and place."""
    rows, drawings = plan(SETTINGS, VOCABULARY)
    of_row: dict[int, Shot] = {}
    for user in make_users(SETTINGS.users, VOCABULARY, SETTINGS.seed):
        mine = [i for i, row in enumerate(rows) if row.user == user.name]
        scenes = [drawings[i].scene for i in mine]
        of_row |= dict(zip(mine, journey(user, scenes, SETTINGS.test_share, SETTINGS.seed)[0], strict=True))
    return [(row, drawing, of_row[i]) for i, (row, drawing) in enumerate(zip(rows, drawings, strict=True))]


def test_pictures_and_all_other_tags_are_those_without_context() -> None:
    replaced = PLACE_WORDS | TIME_WORDS
    small = SyntheticSettings(pictures=400, users=20, new_users=5, crowd=5, pool=30, seed=5)
    without, drawings = plan(small, VOCABULARY)
    rows, same_drawings = plan(replace(small, context=True), VOCABULARY)
    assert same_drawings == drawings
    for row, other in zip(rows, without, strict=True):
        assert (row.image, row.user) == (other.image, other.user)
        assert [t for t in row.tags if t not in replaced] == [t for t in other.tags if t not in replaced]
        assert 1 <= len(set(row.tags)) == len(row.tags) <= 20


def test_there_are_as_many_words_of_time_and_place_as_the_habits_that_they_replace() -> None:
    """By the chances of many users, as those of a data set differ by chance."""
    scenes, user = [compose_scene(np.random.default_rng(i)) for i in range(8)], make_users(1, VOCABULARY, seed=3)[0]
    habits = [_habits(np.random.default_rng(i)) for i in range(2000)]
    said = [shot.words for i in range(1500) for shot in journey(replace(user, number=i), scenes, 0.1, 3)[0]]
    for words, mean in ((PLACE_WORDS, 0.45), (TIME_WORDS, 0.2025)):
        before = np.mean([sum(chance for tag, chance in of.items() if tag in words) for of in habits])
        after = np.mean([sum(word in words for word in some) for some in said])
        assert [before, after] == pytest.approx([mean, mean], rel=0.05)


def test_place_words_tell_the_place_to_those_who_know_the_user(pictures: list[Taken]) -> None:
    rng = np.random.default_rng(0)
    groups = defaultdict(list)
    for taken in pictures:
        groups[taken.user].append((taken.shot.place, tuple(sorted(PLACE_WORDS & set(taken.shot.words)))))
    shuffled = [permuted(pairs, rng) for pairs in groups.values()]
    assert np.mean([information(pairs, rng) for pairs in groups.values()]) > 0.1
    assert abs(np.mean([information(pairs, rng) for pairs in shuffled])) < 0.01


def permuted(pairs: Sequence[tuple], rng: np.random.Generator) -> list[tuple]:
    return [(pairs[i][0], words) for i, (_, words) in zip(rng.permutation(len(pairs)), pairs, strict=True)]


def information(pairs: Sequence[tuple], rng: np.random.Generator) -> float:
    """Mutual information of the pairs' members in nat, less what so few pictures show by chance."""
    return plug_in(pairs) - float(np.mean([plug_in(permuted(pairs, rng)) for _ in range(10)]))


def plug_in(pairs: Sequence[tuple]) -> float:
    both, places, words = Counter(pairs), Counter(p for p, _ in pairs), Counter(w for _, w in pairs)
    size = len(pairs)
    return sum(n / size * math.log(n * size / places[p] / words[w]) for (p, w), n in both.items())


def features(shot: Shot) -> list[float]:
    """Day of the year, day of the week and place, as recorded, for a linear model."""
    year, week = (2 * math.pi * x for x in (shot.taken.timetuple().tm_yday / 366, shot.taken.weekday() / 7))
    known = shot.longitude is not None and shot.latitude is not None
    east, north = np.radians((shot.longitude or 0, shot.latitude or 0))
    place = [math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)]
    return [math.sin(year), math.cos(year), math.sin(week), math.cos(week), *(x * known for x in place), known]


def auc(
    pictures: Sequence[Taken], true: Callable[[Taken], bool], inputs: NDArray[np.float64], shown: NDArray[np.bool_]
) -> float:
    """The area under the curve on the test pictures `shown` of a model of the training pictures."""
    said, test = np.array([*map(true, pictures)]), np.array([taken.test for taken in pictures])
    model = LogisticRegression(C=10, max_iter=500).fit(inputs[~test], said[~test])
    return float(roc_auc_score(said[test & shown], model.predict_proba(inputs[test & shown])[:, 1]))


def test_the_context_tells_summer_and_no_cat(pictures: list[Taken]) -> None:
    inputs, everywhere = np.array([features(taken.shot) for taken in pictures]), np.ones(len(pictures), dtype=np.bool_)
    assert auc(pictures, lambda taken: "summer" in taken.shot.words, inputs, everywhere) > 0.8
    assert auc(pictures, lambda taken: "cat" in taken.scene.concepts, inputs, everywhere) < 0.55


def test_without_coordinates_only_the_user_tells_the_place_words(pictures: list[Taken]) -> None:
    known = np.array([taken.shot.longitude is not None for taken in pictures])
    users = np.eye(100)[[taken.user for taken in pictures]]
    inputs = np.hstack([users, [features(taken.shot) for taken in pictures]])
    gains = {
        shown: np.mean(
            [
                auc(pictures, lambda taken, word=word: word in taken.shot.words, inputs, known == shown)
                - auc(pictures, lambda taken, word=word: word in taken.shot.words, users, known == shown)
                for word in ("california", "london")
            ]
        )
        for shown in (True, False)
    }
    assert gains[True] > 0.05
    assert abs(gains[False]) < 0.03


def test_training_and_test_share_no_trip(travelled: Travelled) -> None:
    splits = defaultdict(set)
    for row, _, shot in travelled:
        if shot.trip is not None:
            splits[row.user, shot.trip].add(row.split)
    assert len(splits) > SETTINGS.users / 2
    assert all(len(of_trip) == 1 for of_trip in splits.values())
    assert {"test"} in splits.values()
    test = [row.split == "test" for row, *_ in travelled]
    assert np.mean(test) == pytest.approx(SETTINGS.test_share, abs=0.03)


def test_what_is_recorded_is_true_but_for_wrong_clocks_and_missing_places(travelled: Travelled) -> None:
    rows = [row for row, *_ in travelled]
    known = [row.longitude is not None for row in rows]
    assert all((row.longitude is None) == (row.latitude is None) for row in rows)
    years = [(shot.when - row.taken) for row, _, shot in travelled]
    assert min(late for late in years if late) >= timedelta(days=365)
    assert np.mean([late != timedelta(0) for late in years]) == pytest.approx(0.02, abs=0.01)
    with_places = {row.user for row, has in zip(rows, known, strict=True) if has}
    assert 0.3 < len(with_places) / SETTINGS.users < 0.7
    assert np.mean([has for row, has in zip(rows, known, strict=True) if row.user in with_places]) > 0.93
    for row, _, shot in travelled:
        assert set(shot.words) <= {*row.tags, "2015"}
        if row.longitude is not None:
            assert np.hypot(*np.subtract((row.longitude, row.latitude), COORDINATES[shot.place])) < 0.4


def test_a_trip_is_short_and_light_and_season_fit_the_picture(travelled: Travelled) -> None:
    trips = defaultdict(list)
    for row, drawing, shot in travelled:
        trips[row.user, shot.trip].append(shot)
        hour = shot.when.hour
        assert {"day": 8 <= hour < 18, "sunset": 18 <= hour < 21, "night": hour >= 21 or hour < 4}[drawing.scene.light]
    for (_, trip), shots in trips.items():
        if trip is not None:
            assert max(s.when for s in shots) - min(s.when for s in shots) <= timedelta(days=11)
            assert len({shot.place for shot in shots}) == 1
            assert 3 <= len(shots) <= 15
    for concept, months in SEASONS.items():
        seen = [
            s for _, d, s in travelled if concept in d.scene.concepts and COORDINATES[s.place][1] > 0 and s.trip is None
        ]
        assert 0.65 < np.mean([shot.when.month in months for shot in seen]) < 0.9


def test_words_of_a_time(travelled: Travelled) -> None:
    sydney, oslo = 8, 10
    shot = next(shot for *_, shot in travelled)
    when = shot.when.replace(year=2012, month=7, day=7, hour=9)
    assert time_words(when, oslo, on_trip=False) == ("july", "2012", "summer", "weekend", "morning")
    assert time_words(when, sydney, on_trip=False) == ("july", "2012", "weekend", "morning")
    assert time_words(when.replace(month=1, day=2, hour=13), sydney, on_trip=True) == (
        *("january", "2012", "summer"),
        *("holiday", "vacation"),
    )


def test_the_data_set_has_the_columns_and_one_without_context_is_unchanged(tmp_path: Path) -> None:
    small = SyntheticSettings(pictures=24, users=3, new_users=2, crowd=2, pool=20, tags=300, seed=11)
    plain = generate(tmp_path / "plain", small, processes=1, quiet=True)
    out = tmp_path / "context"
    options = {"pictures": 24, "users": 3, "new-users": 2, "crowd": 2, "pool": 20, "tags": 300, "seed": 11}
    assert main([str(out), "--context", *(f"--{name}={value}" for name, value in options.items())]) == 0
    assert "context" not in json.loads((plain / "settings.json").read_text())
    assert pl.read_parquet(plain / "manifest.parquet").columns == ["image", "user", "tags", "split"]
    for picture in (plain / "images").iterdir():
        assert picture.read_bytes() == (out / "images" / picture.name).read_bytes()
    manifest = read_manifest(out)
    assert manifest.context is not None
    assert manifest.labels is not None
    assert manifest.context.has_time.all()
    assert set(manifest.labels.names) <= set(CONCEPTS)
    table = pl.read_parquet(out / "manifest.parquet")
    splits = {user: set(own["split"]) for (user,), own in table.group_by("user")}
    assert splits["user000"] == {"train", "test"}
    assert splits["user003"] == {"history", "test"}
    assert splits["crowd0000"] == {"train"}
    assert table.filter(pl.col("user") == "crowd0001")["taken"].n_unique() > 5
