"""The settings of pictures, the things that each may contain, and their colours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

RGB = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A thing that a setting may contain: its chance, size range (share of the picture's height) and place."""

    kind: str
    chance: float
    size: tuple[float, float]
    where: str = "ground"
    only_with: str | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A kind of backdrop: `lights` are the chances of day, sunset and night, `extras` those of its variations."""

    concepts: tuple[str, ...]
    horizon: tuple[float, float]
    choices: tuple[Choice, ...]
    lights: tuple[float, float, float] = (0.55, 0.25, 0.2)
    extras: Mapping[str, float] = field(default_factory=dict)
    ground: tuple[float, float] = (0.8, 0.97)
    open_sky: bool = True
    subject: tuple[str, ...] = ()


CONCEPT_OF = MappingProxyType({"pine": "tree", "cactus": "", "people": "friends", "meadow_flower": "flower"})
"""Concept of each thing whose name is not its concept."""

BIRD = Choice(kind="bird", chance=0.25, size=(0.2, 0.3), where="sky")
BALLOON = Choice(kind="balloon", chance=0.2, size=(0.3, 0.45), where="sky")

SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "sea": Setting(
            concepts=("sea", "landscape"),
            horizon=(0.42, 0.55),
            extras={"beach": 0.6},
            ground=(0.86, 0.97),
            choices=(
                Choice(kind="boat", chance=0.45, size=(0.28, 0.45), where="water"),
                Choice(kind="palm", chance=0.5, size=(0.55, 0.8), only_with="beach"),
                Choice(kind="umbrella", chance=0.45, size=(0.28, 0.38), only_with="beach"),
                Choice(kind="person", chance=0.3, size=(0.3, 0.4), only_with="beach"),
                Choice(kind="dog", chance=0.15, size=(0.2, 0.28), only_with="beach"),
                BIRD,
            ),
        ),
        "lake": Setting(
            concepts=("lake", "mountain", "landscape"),
            horizon=(0.5, 0.58),
            ground=(0.9, 0.98),
            choices=(
                Choice(kind="boat", chance=0.4, size=(0.22, 0.34), where="water"),
                Choice(kind="pine", chance=0.7, size=(0.45, 0.65)),
                Choice(kind="person", chance=0.2, size=(0.3, 0.4)),
                BIRD,
            ),
        ),
        "mountain": Setting(
            concepts=("mountain", "landscape"),
            horizon=(0.66, 0.74),
            extras={"snow": 0.5},
            choices=(
                Choice(kind="pine", chance=0.5, size=(0.35, 0.5)),
                Choice(kind="sheep", chance=0.3, size=(0.2, 0.28)),
                Choice(kind="house", chance=0.3, size=(0.22, 0.32)),
                Choice(kind="person", chance=0.25, size=(0.28, 0.38)),
                BIRD,
                BALLOON,
            ),
        ),
        "snow": Setting(
            concepts=("snow", "landscape"),
            horizon=(0.52, 0.62),
            choices=(
                Choice(kind="pine", chance=0.75, size=(0.4, 0.6)),
                Choice(kind="house", chance=0.4, size=(0.28, 0.4)),
                Choice(kind="person", chance=0.3, size=(0.28, 0.38)),
                Choice(kind="dog", chance=0.25, size=(0.2, 0.3)),
            ),
        ),
        "forest": Setting(
            concepts=("forest", "tree"),
            horizon=(0.7, 0.78),
            lights=(0.75, 0.15, 0.1),
            extras={"autumn": 0.35},
            open_sky=False,
            choices=(
                Choice(kind="person", chance=0.25, size=(0.3, 0.42)),
                Choice(kind="dog", chance=0.25, size=(0.22, 0.32)),
                Choice(kind="horse", chance=0.15, size=(0.34, 0.45)),
                Choice(kind="bird", chance=0.25, size=(0.2, 0.3), where="sky"),
            ),
        ),
        "field": Setting(
            concepts=("field", "landscape"),
            horizon=(0.5, 0.62),
            choices=(
                Choice(kind="tree", chance=0.5, size=(0.4, 0.6)),
                Choice(kind="meadow_flower", chance=0.45, size=(0.22, 0.3)),
                Choice(kind="horse", chance=0.35, size=(0.32, 0.45)),
                Choice(kind="sheep", chance=0.3, size=(0.22, 0.32)),
                Choice(kind="house", chance=0.25, size=(0.26, 0.36)),
                Choice(kind="people", chance=0.12, size=(0.28, 0.36)),
                BALLOON,
            ),
        ),
        "city": Setting(
            concepts=("city", "building", "road"),
            horizon=(0.76, 0.8),
            ground=(0.9, 0.97),
            lights=(0.45, 0.2, 0.35),
            choices=(
                Choice(kind="car", chance=0.6, size=(0.2, 0.27)),
                Choice(kind="person", chance=0.3, size=(0.32, 0.42)),
                Choice(kind="people", chance=0.3, size=(0.28, 0.36)),
                Choice(kind="tree", chance=0.25, size=(0.3, 0.4)),
                BIRD,
            ),
        ),
        "village": Setting(
            concepts=("house", "road"),
            horizon=(0.72, 0.77),
            ground=(0.9, 0.97),
            choices=(
                Choice(kind="tree", chance=0.45, size=(0.4, 0.55)),
                Choice(kind="car", chance=0.4, size=(0.2, 0.26)),
                Choice(kind="cat", chance=0.35, size=(0.25, 0.34)),
                Choice(kind="people", chance=0.3, size=(0.28, 0.36)),
                Choice(kind="dog", chance=0.2, size=(0.22, 0.3)),
            ),
        ),
        "desert": Setting(
            concepts=("desert", "landscape"),
            horizon=(0.5, 0.6),
            choices=(
                Choice(kind="cactus", chance=0.65, size=(0.35, 0.5)),
                Choice(kind="horse", chance=0.25, size=(0.3, 0.42)),
                Choice(kind="car", chance=0.2, size=(0.2, 0.26)),
                Choice(kind="person", chance=0.2, size=(0.28, 0.38)),
                BALLOON,
            ),
        ),
        "macro": Setting(
            concepts=("flower", "macro"),
            horizon=(0.9, 0.95),
            lights=(1, 0, 0),
            open_sky=False,
            choices=(),
            subject=("flower",),
        ),
        "studio": Setting(
            concepts=("portrait",),
            horizon=(0.82, 0.88),
            lights=(1, 0, 0),
            open_sky=False,
            choices=(),
            subject=("person", "cat", "dog", "cat", "dog", "people"),
        ),
    }
)

COLOURS: tuple[RGB, ...] = (
    (214, 57, 57),
    (240, 150, 40),
    (247, 209, 66),
    (58, 110, 200),
    (140, 80, 170),
    (235, 110, 150),
    (245, 245, 240),
    (40, 150, 140),
)
FUR: tuple[RGB, ...] = ((120, 78, 48), (64, 54, 50), (222, 160, 92), (150, 146, 142), (236, 222, 200))
LEAVES: tuple[RGB, ...] = ((46, 120, 50), (76, 148, 58), (36, 96, 66), (110, 150, 50))
AUTUMN: tuple[RGB, ...] = ((214, 110, 30), (196, 62, 34), (232, 168, 44))
PALETTES: Mapping[str, tuple[RGB, ...]] = MappingProxyType(
    dict.fromkeys(("dog", "cat", "horse"), FUR)
    | dict.fromkeys(("tree", "pine", "palm", "cactus"), LEAVES)
    | {"sheep": ((240, 236, 226), (225, 216, 200)), "bird": ((250, 250, 250), (44, 46, 58), (196, 60, 50))}
)
