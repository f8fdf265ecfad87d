"""Simulated users: which words they prefer, what they notice, and what they tag whatever the picture shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.data.concepts import CAMERAS, CONCEPTS, EXPRESSIONS, INTERESTS, PLACES, STYLES, TIMES
from training.data.drawing import SETTINGS, Scene

MIN_TAGS_PER_PICTURE = 4
MAX_TAGS_PER_PICTURE = 20
DIALECTS = 4
"""Word habits that users share, so that a new user's habit resembles one that was seen before."""


@dataclass(frozen=True, kw_only=True)
class User:
    """One person's habits. `number` is unique in a data set.

    `words` and `rare` are in order of preference; all other values are probabilities. `words`: concept to synonyms.
    `notices`: concept to the chance that it is tagged if it can be seen. `habits`: tag to the chance that it is given
    to any picture. `scenes`: setting to how often it is photographed.
    """

    name: str
    number: int
    words: Mapping[str, tuple[str, ...]]
    faithful: float
    """Chance that the preferred synonym is used."""
    doubles: float
    """Chance that a second synonym is added."""
    notices: Mapping[str, float]
    habits: Mapping[str, float]
    scenes: Mapping[str, float]
    rare: tuple[str, ...]
    strays: float
    """Expected number of rare tags on a picture."""


def make_users(count: int, vocabulary: Sequence[str], seed: int, first: int = 0) -> tuple[User, ...]:
    """The users `first`, `first` + 1, ... of a data set; they know no words outside the vocabulary."""
    dialects = [_dialect(np.random.default_rng([seed, 0, 1, d])) for d in range(DIALECTS)]
    numbers = range(first, first + count)
    return tuple(_user(i, dialects, vocabulary, np.random.default_rng([seed, i, 2])) for i in numbers)


def tag_picture(user: User, scene: Scene, rng: np.random.Generator) -> list[str]:
    """The tags that this user gives to this scene: 4 to 20 different ones, fewer only if the vocabulary is tiny."""
    tags: list[str] = []
    for concept in scene.concepts:
        if rng.random() < user.notices[concept]:
            tags += _words(user, concept, rng)
    tags += [tag for tag, chance in user.habits.items() if rng.random() < chance]
    if user.rare:
        tags += [_rare(user, rng) for _ in range(rng.poisson(user.strays))]
    unique = list(dict.fromkeys(tags))[:MAX_TAGS_PER_PICTURE]
    if len(unique) < MIN_TAGS_PER_PICTURE:
        unique = list(dict.fromkeys([*unique, *_on_second_thought(user, scene)]))[:MIN_TAGS_PER_PICTURE]
    return unique


def _words(user: User, concept: str, rng: np.random.Generator) -> list[str]:
    synonyms = user.words[concept]
    if not synonyms:
        return []
    first = 0 if rng.random() < user.faithful else int(rng.integers(len(synonyms)))
    chosen = [synonyms[first]]
    if rng.random() < user.doubles:
        chosen.append(synonyms[(first + 1) % len(synonyms)])
    return chosen


def _rare(user: User, rng: np.random.Generator) -> str:
    return user.rare[(int(rng.zipf(1.3)) - 1) % len(user.rare)]


def _on_second_thought(user: User, scene: Scene) -> list[str]:
    """What a user with too few tags adds: what they notice most, then habits, then synonyms, then rare tags."""
    noticed = sorted(scene.concepts, key=lambda concept: -user.notices[concept])
    words = [user.words[concept] for concept in noticed]
    habits = sorted(user.habits, key=lambda tag: -user.habits[tag])
    return [*(w[0] for w in words if w), *habits, *(word for w in words for word in w[1:]), *user.rare]


def _dialect(rng: np.random.Generator) -> Mapping[str, tuple[str, ...]]:
    return {concept: _shuffled(synonyms, rng) for concept, synonyms in CONCEPTS.items()}


def _shuffled(synonyms: tuple[str, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """A random order in which the usual word, which stands first, tends to stay first."""
    weights = 0.4 ** np.arange(len(synonyms))
    return tuple(map(str, rng.choice(synonyms, len(synonyms), replace=False, p=weights / weights.sum())))


def _user(
    index: int, dialects: Sequence[Mapping[str, tuple[str, ...]]], known: Sequence[str], rng: np.random.Generator
) -> User:
    vocabulary = frozenset(known)
    dialect = dialects[int(rng.integers(len(dialects)))]
    words = {concept: _own_order(dialect[concept], vocabulary, rng) for concept in CONCEPTS}
    common = set().union(*CONCEPTS.values())
    tail = [tag for tag in known if tag not in common]
    taste = rng.dirichlet(np.full(len(SETTINGS), 1.5)) + 0.02
    return User(
        name=f"user{index:03d}",
        number=index,
        words=words,
        faithful=float(rng.uniform(0.85, 0.98)),
        doubles=float(rng.choice([0.05, 0.5], p=[0.7, 0.3])),
        notices=_notices(rng),
        habits={tag: chance for tag, chance in _habits(rng).items() if tag in vocabulary},
        scenes=dict(zip(SETTINGS, taste.tolist(), strict=True)),
        rare=tuple(tail[i] for i in rng.permutation(len(tail))),
        strays=float(rng.gamma(1.5, 0.3)),
    )


def _own_order(synonyms: tuple[str, ...], vocabulary: frozenset[str], rng: np.random.Generator) -> tuple[str, ...]:
    order = _shuffled(synonyms, rng) if rng.random() < 0.15 else synonyms
    return tuple(word for word in order if word in vocabulary)


def _notices(rng: np.random.Generator) -> dict[str, float]:
    levels, shares = (0.06, 0.5, 0.95), (0.35, 0.15, 0.5)
    notices = {}
    for concepts in INTERESTS.values():
        group = rng.choice(levels, p=shares)
        for concept in concepts:
            chance = rng.choice(levels, p=shares) if rng.random() < 0.2 else group
            notices[concept] = float(np.clip(chance + rng.normal(0, 0.05), 0.02, 0.98))
    return notices


def _habits(rng: np.random.Generator) -> dict[str, float]:
    """Two to seven tags: camera, home, and what this user likes to say."""
    said: list[str] = []
    if rng.random() < 0.55:
        said += CAMERAS[zipf_index(len(CAMERAS), rng)]
    if rng.random() < 0.5:
        said += PLACES[zipf_index(len(PLACES), rng)]
    for words, chance in ((EXPRESSIONS, 0.5), (STYLES, 0.35), (TIMES, 0.45)):
        if rng.random() < chance or len(said) < 2:
            said.append(words[zipf_index(len(words), rng)])
    return {tag: float(rng.uniform(0.15, 0.75)) for tag in said}


def zipf_index(n: int, rng: np.random.Generator) -> int:
    """An index below n, the first ones most often."""
    weights = 1 / np.arange(1, n + 1)
    return int(rng.choice(n, p=weights / weights.sum()))
