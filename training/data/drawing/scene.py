"""The contents of a picture, before it is drawn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from training.data.drawing.catalogue import AUTUMN, COLOURS, CONCEPT_OF, PALETTES, RGB, SETTINGS, Choice, Setting

MAX_THINGS = 3
MONOCHROME_SHARE = 0.1
"""Share of the daylight pictures without colour; others would become too dark to recognize."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object: `size` is its height, (`x`, `y`) its foot with y downwards, all in shares of the picture's side."""

    kind: str
    x: float
    y: float
    size: float
    colour: RGB
    mirrored: bool


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture: `setting` names the backdrop, `light` is day, sunset or night, `extras` vary the backdrop."""

    setting: str
    light: str
    horizon: float
    sun_x: float
    extras: tuple[str, ...]
    things: tuple[Thing, ...]

    @property
    def concepts(self) -> tuple[str, ...]:
        """The visible concepts, each once, in a fixed order with the backdrop first."""
        setting = SETTINGS[self.setting]
        seen = [*setting.concepts, *_light_concepts(self.light, setting), *self.extras]
        seen += [CONCEPT_OF.get(thing.kind, thing.kind) for thing in self.things]
        seen += _colours(self)
        return tuple(dict.fromkeys(concept for concept in seen if concept))


def compose_scene(rng: np.random.Generator, taste: Mapping[str, float] | None = None) -> Scene:
    """Draw a random scene; `taste` maps settings to weights (default: equal)."""
    names = list(SETTINGS)
    weights = np.array([1.0 if taste is None else taste.get(name, 0.0) for name in names])
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    setting = SETTINGS[name]
    light = ("day", "sunset", "night")[rng.choice(3, p=setting.lights)]
    extras = (*(extra for extra, chance in setting.extras.items() if rng.random() < chance), *_sky(light, setting, rng))
    horizon = float(rng.uniform(*setting.horizon))
    return Scene(
        setting=name,
        light=light,
        horizon=horizon,
        sun_x=float(rng.uniform(0.15, 0.85)),
        extras=(*extras, "bw") if light == "day" and rng.random() < MONOCHROME_SHARE else extras,
        things=tuple(_things(setting, extras, horizon, rng)),
    )


def _sky(light: str, setting: Setting, rng: np.random.Generator) -> Iterator[str]:
    if not setting.open_sky:
        return
    chances = {
        "day": {"clouds": 0.5, "sun": 0.35, "rainbow": 0.08},
        "sunset": {"clouds": 0.35, "sun": 0.85},
        "night": {"stars": 0.7, "moon": 0.6},
    }
    yield from (extra for extra, chance in chances[light].items() if rng.random() < chance)


def _things(setting: Setting, extras: tuple[str, ...], horizon: float, rng: np.random.Generator) -> list[Thing]:
    if setting.subject:
        kind = setting.subject[rng.integers(len(setting.subject))]
        size = (0.56, 0.64) if kind in ("dog", "people") else (0.7, 0.85)
        x, y = rng.uniform(0.44, 0.56), rng.uniform(0.94, 1.0)
        return [_thing(Choice(kind=kind, chance=1, size=size), x, y, extras, rng)]
    possible = [c for c in setting.choices if c.only_with in (None, *extras)]
    chosen = [c for c in possible if rng.random() < c.chance][:MAX_THINGS] or possible[:1]
    slots = rng.permutation(len(chosen)) + 0.5
    things = []
    for choice, slot in zip(chosen, slots, strict=True):
        x = 0.08 + 0.84 * slot / len(chosen) + rng.uniform(-0.06, 0.06)
        y = {
            "sky": rng.uniform(0.34, 0.46),
            "water": horizon + rng.uniform(0.05, 0.12),
            "ground": rng.uniform(*setting.ground),
        }[choice.where]
        things.append(_thing(choice, x, y, extras, rng))
    return sorted(things, key=lambda thing: thing.y)


def _thing(choice: Choice, x: float, y: float, extras: tuple[str, ...], rng: np.random.Generator) -> Thing:
    palette = AUTUMN if "autumn" in extras and choice.kind == "tree" else PALETTES.get(choice.kind, COLOURS)
    base = np.array(palette[rng.integers(len(palette))])
    red, green, blue = np.clip(base + rng.normal(0, 9, 3), 0, 255).astype(int).tolist()
    return Thing(
        kind=choice.kind,
        x=float(x),
        y=float(y),
        size=float(rng.uniform(*choice.size)),
        colour=(red, green, blue),
        mirrored=bool(rng.random() < 0.5),
    )


def _light_concepts(light: str, setting: Setting) -> tuple[str, ...]:
    sky = ("sky",) if setting.open_sky and light != "night" else ()
    return sky if light == "day" else (light, *sky)


def _colours(scene: Scene) -> list[str]:
    if "bw" in scene.extras:
        return []
    if scene.light == "sunset" or scene.setting == "desert" or "autumn" in scene.extras:
        return ["orange"]
    if scene.light == "night":
        return []
    if scene.setting in ("field", "forest", "macro"):
        return ["green"]
    return ["blue"] if scene.setting in ("sea", "lake") else []
