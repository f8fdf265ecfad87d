"""When and where simulated users photograph, and what they say about it: the context of `SyntheticSettings`.

Neither a picture nor its user's history tells the time and the place. The constants are facts or were chosen before any
method ran on such data. All random numbers are from streams of their own, so that pictures and all other tags are those
of the same data set without context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from training.data.concepts import CONCEPTS, COORDINATES, MONTHS, PLACES, TIMES
from training.data.drawing import Scene
from training.data.users import User, zipf_index

START, END = datetime(2005, 1, 1), datetime(2015, 1, 1)
TRIP_PICTURES = (3, 15)
"""Fewest and most pictures of a trip. All trips of a user together have at most half of the pictures."""
TRIP_DAYS = 10
MORE_TRIPS = 2.0
"""Expected number of trips beyond the first."""
SEASONS = {"autumn": (9, 10, 11), "snow": (12, 1, 2)}
"""Concept to its months in the north."""
IN_SEASON = 0.7
"""Share of the pictures with such a concept that are taken in these months; of a trip, the first one decides."""
PLACE_WORDS, TIME_WORDS = 0.9, 0.6075
"""Expected number of such words on a picture by a user who says them whenever possible.

With the mean of q, 1/2 and 1/3, it is 0.45 and 0.2025 over all users: as many as the habits that they replace.
"""
CITY_DEGREES = 0.05
WITHOUT_PLACES, LOST_PLACES = 0.5, 0.04
"""Share of the users whose pictures never have coordinates, and of the others' pictures: 52 % of all, in YFCC100M too.
"""
WRONG_CLOCK, WRONG_DAYS = 0.02, (365, 3650)
"""Share of the pictures whose recorded time is too early, and by how many days at least and at most."""
LABEL_LOST, LABEL_INVENTED = 0.1, 0.02
"""Share of the visible concepts that the labels lack, and of the others that they have."""

SEASON_WORDS = {3: "spring", 4: "spring", 5: "spring", 6: "summer", 7: "summer", 8: "summer"}
"""By month in the north. Autumn and winter are words for what pictures show."""
TRIP_WORDS = ("holiday", "vacation")
REPLACED = frozenset(TIMES).union(*PLACES)
"""Habits of users that the words of a picture's own time and place replace."""

_MONTHS = (*MONTHS[:6], "july", *MONTHS[6:])


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What one picture's context is and what is known of it.

    `when` and `place` (an index into PLACES) are true; `taken`, `longitude` and `latitude` are what is recorded.
    `trip` counts the user's trips from 0; None is at home. `words` are the user's, about time and place.
    """

    when: datetime
    place: int
    trip: int | None
    words: tuple[str, ...]
    taken: datetime
    longitude: float | None
    latitude: float | None


def journey(user: User, scenes: Sequence[Scene], share: float, seed: int) -> tuple[list[Shot], list[int]]:
    """The context of each of a user's pictures, and which are held out: whole trips, about `share` of the pictures.

    Pictures are in order of time, but for those that belong to a season.
    """
    rng = np.random.default_rng([seed, user.number, 8])  # 5 to 7 are the crowd's
    home = zipf_index(len(PLACES), rng)
    says_places, says_times = rng.beta(1, 1), rng.beta(1, 2)
    has_places = rng.random() >= WITHOUT_PLACES
    units = _units(len(scenes), rng)
    days = np.sort(rng.uniform(0, (END - START).days - TRIP_DAYS - 1, len(units)))
    shots: list[Shot] = []
    for (trip, pictures), day in zip(units, days, strict=True):
        place = home if trip is None else [*range(home), *range(home + 1, len(PLACES))][zipf_index(11, rng)]
        first = _in_season(START + timedelta(days=int(day)), [scenes[i] for i in pictures], place, rng)
        for later in np.sort(rng.uniform(0, TRIP_DAYS, len(pictures))) if trip is not None else (0,):
            scene = scenes[len(shots)]
            when = first + timedelta(days=int(later), minutes=int(60 * _hour(scene.light, rng)))
            words = _said(PLACES[place], says_places * PLACE_WORDS, rng)
            words += _said(time_words(when, place, on_trip=trip is not None), says_times * TIME_WORDS, rng)
            longitude, latitude = (rng.normal(COORDINATES[place], CITY_DEGREES)).tolist()
            known = bool(rng.random() >= LOST_PLACES) and has_places
            wrong = timedelta(days=int(rng.integers(*WRONG_DAYS, endpoint=True)) * bool(rng.random() < WRONG_CLOCK))
            shots.append(
                Shot(
                    when=when,
                    place=place,
                    trip=trip,
                    words=tuple(words),
                    taken=when - wrong,
                    longitude=longitude if known else None,
                    latitude=latitude if known else None,
                )
            )
    return shots, _held_out([pictures for _, pictures in units], share, rng)


def labels(scene: Scene, seed: Sequence[int]) -> list[str]:
    """Class labels of a drawing: its concepts, with noise."""
    chances = np.random.default_rng([*seed, 9]).random(len(CONCEPTS))
    visible = set(scene.concepts)
    return [
        concept
        for concept, chance in zip(CONCEPTS, chances, strict=True)
        if chance < (1 - LABEL_LOST if concept in visible else LABEL_INVENTED)
    ]


def time_words(when: datetime, place: int, *, on_trip: bool) -> tuple[str, ...]:
    """All words that are true of a picture's time."""
    words = [_MONTHS[when.month - 1], str(when.year)]
    words += [SEASON_WORDS[month] for month in [_northern(when.month, place)] if month in SEASON_WORDS]
    words += ["weekend"] if when.weekday() >= 5 else []
    words += ["morning"] if 5 <= when.hour < 12 else []
    return (*words, *(TRIP_WORDS if on_trip else ()))


def _units(pictures: int, rng: np.random.Generator) -> list[tuple[int | None, list[int]]]:
    """Trips with their numbers, and single pictures at home, in order of time."""
    lengths: list[int] = []
    for length in rng.integers(*TRIP_PICTURES, 1 + rng.poisson(MORE_TRIPS), endpoint=True).tolist():
        if sum(lengths) + length <= pictures // 2:
            lengths.append(length)
    order = rng.permutation([*range(len(lengths)), *[-1] * (pictures - sum(lengths))]).tolist()
    units: list[tuple[int | None, list[int]]] = []
    start = 0
    for trip in order:
        stop = start + (1 if trip < 0 else lengths[trip])
        units.append((None if trip < 0 else trip, list(range(start, stop))))
        start = stop
    return units


def _in_season(day: datetime, scenes: Sequence[Scene], place: int, rng: np.random.Generator) -> datetime:
    """Move the day within its year if the first picture with a concept of SEASONS says so."""
    concepts = [concept for scene in scenes for concept in SEASONS if concept in scene.concepts]
    if not concepts or rng.random() >= IN_SEASON:
        return day
    month = SEASONS[concepts[0]][rng.integers(3)]
    return day.replace(month=_northern(month, place), day=int(rng.integers(1, 29)))


def _northern(month: int, place: int) -> int:
    """The month in the north with this month's season; in the south, the month with that of a northern one."""
    return (month + 5) % 12 + 1 if COORDINATES[place][1] < 0 else month


def _hour(light: str, rng: np.random.Generator) -> float:
    return {"day": rng.triangular(8, 13, 18), "sunset": rng.uniform(18, 21), "night": rng.uniform(21, 28)}[light]


def _said(words: Sequence[str], expected: float, rng: np.random.Generator) -> list[str]:
    """Each with the same chance, `expected` in the mean."""
    return [word for word in words if rng.random() < expected / len(words)]


def _held_out(units: Sequence[list[int]], share: float, rng: np.random.Generator) -> list[int]:
    """Whole units with `share` of the pictures in the mean, at least one picture and never all."""
    pictures = sum(map(len, units))
    wanted = min(pictures - 1, max(1, round(share * pictures)))
    held: list[int] = []
    for i in rng.permutation(len(units)):
        missing = wanted - len(held)
        if len(units[i]) > missing and rng.random() * len(units[i]) >= missing:
            break
        held += units[i]
        if len(held) >= wanted:
            break
    if held and len(held) < pictures:
        return held
    return [next(unit[0] for unit in units if len(unit) == 1)]
