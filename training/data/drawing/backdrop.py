"""Skies and grounds, which fill a picture behind its objects."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.data.drawing.canvas import Brush, Canvas, shade
from training.data.drawing.catalogue import AUTUMN, COLOURS, LEAVES, RGB
from training.data.drawing.scene import Scene
from training.data.drawing.things import house, pine, tree

SKIES: Mapping[str, tuple[RGB, ...]] = MappingProxyType(
    {
        "day": ((58, 128, 220), (128, 186, 242), (206, 230, 250)),
        "sunset": ((88, 58, 130), (222, 98, 92), (250, 150, 66), (255, 214, 120)),
        "night": ((5, 7, 26), (16, 20, 56), (44, 48, 98)),
    }
)
SKYLINES = MappingProxyType({"city": 0.28, "mountain": 0.27, "lake": 0.28, "village": 0.34})
"""Height of the setting sun for settings that would hide it at the horizon."""
RAINBOW: tuple[RGB, ...] = (
    (226, 70, 70),
    (240, 150, 50),
    (246, 220, 80),
    (90, 180, 90),
    (70, 130, 220),
    (130, 90, 190),
)


def draw_backdrop(canvas: Canvas, scene: Scene) -> None:
    """Fill the canvas with the scene's sky and ground."""
    if scene.setting not in ("macro", "studio"):
        _sky(canvas, scene)
    GROUNDS[scene.setting](canvas, scene)


def _sky(canvas: Canvas, scene: Scene) -> None:
    change = canvas.rng.uniform(0.85, 1.1)
    canvas.gradient(0, scene.horizon + 0.05, [shade(colour, change) for colour in SKIES[scene.light]], lit=True)
    for extra in ("stars", "moon", "sun", "rainbow", "clouds"):
        if extra in scene.extras:
            SKY_EXTRAS[extra](canvas, scene)


def _stars(canvas: Canvas, scene: Scene) -> None:
    for x, y, size in canvas.rng.random((55, 3)):
        canvas.oval(x, y * scene.horizon, 0.002 + 0.004 * size, 0.002 + 0.004 * size, (250, 246, 220), lit=True)


def _moon(canvas: Canvas, scene: Scene) -> None:
    x, y, r = scene.sun_x, canvas.rng.uniform(0.13, 0.2), canvas.rng.uniform(0.07, 0.1)
    _glow(canvas, x, y, 2.2 * r, (120, 130, 180))
    canvas.oval(x, y, r, r, (244, 240, 214), lit=True)
    for dx, dy, share in ((-0.3, -0.2, 0.22), (0.25, 0.3, 0.28), (0.3, -0.35, 0.15)):
        canvas.oval(x + dx * r, y + dy * r, share * r, share * r, (216, 210, 186), lit=True)


def _sun(canvas: Canvas, scene: Scene) -> None:
    low = scene.light == "sunset"
    r = canvas.rng.uniform(0.1, 0.14) if low else canvas.rng.uniform(0.07, 0.1)
    y = (
        SKYLINES.get(scene.setting, scene.horizon) - canvas.rng.uniform(-0.02, 0.1)
        if low
        else canvas.rng.uniform(0.12, 0.2)
    )
    _glow(canvas, scene.sun_x, y, 2.4 * r, (255, 226, 150))
    canvas.oval(scene.sun_x, y, r, r, (255, 232, 150) if low else (255, 246, 196), lit=True)


def _glow(canvas: Canvas, x: float, y: float, r: float, colour: RGB) -> None:
    mask = Image.new("L", (56, 56))
    ImageDraw.Draw(mask).ellipse([(v * 56) for v in (x - r, y - r, x + r, y + r)], fill=150)
    canvas.haze(mask.filter(ImageFilter.GaussianBlur(4)), colour)


def _clouds(canvas: Canvas, scene: Scene) -> None:
    mask = Image.new("L", (112, 112))
    pen = ImageDraw.Draw(mask)
    for x, y in canvas.rng.uniform((0, 0.06), (1, max(0.2, scene.horizon - 0.2)), (canvas.rng.integers(3, 6), 2)):
        for dx, dy in canvas.rng.normal(0, (0.09, 0.018), (7, 2)):
            r = canvas.rng.uniform(0.03, 0.065)
            pen.ellipse([112 * v for v in (x + dx - r, y + dy - r, x + dx + r, y + dy + 0.7 * r)], fill=235)
    canvas.haze(
        mask.filter(ImageFilter.GaussianBlur(1.6)), (250, 250, 252) if scene.light == "day" else (252, 178, 150)
    )


def _rainbow(canvas: Canvas, scene: Scene) -> None:
    arc = np.linspace(0, np.pi, 40)
    for ring, colour in enumerate(RAINBOW):
        r = 0.52 - 0.022 * ring
        points = [(scene.sun_x + r * np.cos(a), scene.horizon - r * np.sin(a)) for a in arc]
        canvas.line(points, 0.024, colour)


def _sea(canvas: Canvas, scene: Scene) -> None:
    _water(canvas, scene, 1.0, ((22, 84, 150), (38, 128, 190), (70, 172, 206)))
    if "beach" in scene.extras:
        x = np.linspace(0, 1, 30)
        edge = 0.78 + 0.02 * np.sin(x * canvas.rng.uniform(5, 9) + canvas.rng.uniform(0, 6))
        for rise, colour in ((0.03, (244, 250, 250)), (0.0, (206, 178, 122)), (-0.03, (230, 206, 150))):
            canvas.polygon([*zip(x, edge - rise, strict=True), (1, 1), (0, 1)], colour)
        _grain(canvas, 0.82, 1.0, (180, 150, 100), 120)


def _water(canvas: Canvas, scene: Scene, bottom: float, colours: tuple[RGB, ...]) -> None:
    canvas.gradient(scene.horizon, bottom, colours)
    depth = bottom - scene.horizon
    for x, nearness, length in canvas.rng.random((70, 3)):
        y, half = scene.horizon + depth * nearness, (0.02 + 0.05 * length) * (0.4 + nearness)
        canvas.line([(x - half, y), (x, y - 0.006), (x + half, y)], 0.004, shade(colours[-1], 1.25))
    if "sun" in scene.extras or "moon" in scene.extras:
        glitter = (255, 214, 140) if scene.light == "sunset" else (236, 240, 240)
        for side, nearness in canvas.rng.normal(0, 1, (26, 2)):
            y = scene.horizon + depth * min(1.0, abs(nearness) / 2)
            x = scene.sun_x + 0.05 * side
            canvas.line([(x - 0.03, y), (x + 0.03, y)], 0.006, glitter, lit=True)


def _lake(canvas: Canvas, scene: Scene) -> None:
    _ridges(canvas, scene, 0.3, snowy=False)
    canvas.gradient(scene.horizon - 0.015, scene.horizon + 0.01, [(48, 92, 60), (40, 80, 58)])
    _water(canvas, scene, 1.0, ((70, 120, 130), (58, 124, 150), (40, 100, 130)))
    mirror = canvas.image.crop((0, 0, *canvas.image.size))
    side = canvas.image.width
    top = round(scene.horizon * side)
    height = min(side - top, round(0.3 * side))
    reflection = mirror.crop((0, top - height, side, top)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    canvas.image.paste(reflection, (0, top), Image.new("L", reflection.size, 110))
    x = np.linspace(0, 1, 20)
    shore = 0.9 + 0.015 * np.sin(9 * x + 6 * scene.sun_x)
    canvas.polygon([*zip(x, shore, strict=True), (1, 1), (0, 1)], (70, 118, 60))


def _mountain(canvas: Canvas, scene: Scene) -> None:
    _ridges(canvas, scene, 0.5, snowy="snow" in scene.extras)
    _meadow(canvas, scene.horizon, (86, 138, 64))


def _ridges(canvas: Canvas, scene: Scene, height: float, *, snowy: bool) -> None:
    rock = (112, 118, 140), (88, 96, 112)
    for row, colour in enumerate(rock):
        for x in np.arange(-0.1, 1.2, 0.36) + canvas.rng.uniform(-0.12, 0.12) + 0.18 * row:
            peak = scene.horizon - height * canvas.rng.uniform(0.7, 1.0) * (1 - 0.35 * row)
            wide = canvas.rng.uniform(0.26, 0.36)
            foot = scene.horizon + 0.02
            canvas.polygon([(x - wide, foot), (x, peak), (x + wide, foot)], colour)
            canvas.polygon([(x, peak), (x + wide, foot), (x + 0.1 * wide, foot)], shade(colour, 0.82))
            if snowy:
                _cap(canvas, x, peak, wide / (foot - peak), 0.42 * (foot - peak))


def _cap(canvas: Canvas, x: float, peak: float, slope: float, depth: float) -> None:
    half = slope * depth
    jags = [(half, 1.0), (0.5 * half, 0.75), (0.2 * half, 1.0), (-0.2 * half, 0.78), (-0.55 * half, 1.0), (-half, 1.0)]
    canvas.polygon([(x, peak), *((x + dx, peak + share * depth) for dx, share in jags)], (246, 249, 255))


def _snow(canvas: Canvas, scene: Scene) -> None:
    for x in np.arange(0, 1.05, 0.085):
        _plant(canvas, x, scene.horizon + 0.03, canvas.rng.uniform(0.12, 0.2), (54, 92, 92), pine)
    _hills(canvas, scene.horizon, ((226, 234, 246), (240, 245, 252), (250, 252, 255)))
    for x, y, size in canvas.rng.random((60, 3)):
        canvas.oval(x, y, 0.003 + 0.005 * size, 0.003 + 0.005 * size, (255, 255, 255))


def _hills(canvas: Canvas, horizon: float, colours: tuple[RGB, ...]) -> None:
    x = np.linspace(0, 1, 24)
    for row, colour in enumerate(colours):
        wave = np.sin(x * canvas.rng.uniform(3, 6) + canvas.rng.uniform(0, 6))
        y = horizon + row * (1 - horizon) / len(colours) + 0.035 * wave
        canvas.polygon([*zip(x, y, strict=True), (1, 1), (0, 1)], colour)


def _desert(canvas: Canvas, scene: Scene) -> None:
    _hills(canvas, scene.horizon, ((214, 148, 84), (226, 166, 98), (236, 184, 116), (228, 172, 104)))
    _grain(canvas, scene.horizon + 0.1, 1.0, (196, 134, 74), 140)


def _forest(canvas: Canvas, scene: Scene) -> None:
    palette = AUTUMN if "autumn" in scene.extras else LEAVES
    canvas.gradient(0.25, scene.horizon + 0.05, [shade(palette[0], 0.9), shade(palette[0], 0.45)])
    _meadow(canvas, scene.horizon, (150, 110, 60) if "autumn" in scene.extras else (62, 92, 44))
    for row, (y, size) in enumerate(((0.74, 0.62), (0.8, 0.78))):
        for x in np.arange(-0.02, 1.05, 0.2) + 0.1 * row + canvas.rng.uniform(-0.03, 0.03, 6):
            colour = shade(palette[canvas.rng.integers(len(palette))], 0.75 + 0.25 * row)
            conifer = "autumn" not in scene.extras and canvas.rng.random() < 0.35
            _plant(canvas, x, y, size * canvas.rng.uniform(0.85, 1.1), colour, pine if conifer else tree)


def _plant(canvas: Canvas, x: float, y: float, size: float, colour: RGB, draw: Callable[[Brush, RGB], None]) -> None:
    draw(Brush(canvas, x, y, size, False), colour)


def _field(canvas: Canvas, scene: Scene) -> None:
    _hills(canvas, scene.horizon - 0.03, ((126, 164, 96), (104, 160, 76)))
    _meadow(canvas, scene.horizon + 0.06, (112, 172, 66))


def _meadow(canvas: Canvas, top: float, colour: RGB) -> None:
    canvas.gradient(top, 1.0, [colour, shade(colour, 0.82)])
    canvas.mottle(top, 1.0, shade(colour, 1.25), 0.8, (16, 12))
    for x, y in canvas.rng.uniform((0, top + 0.02), (1, 1), (60, 2)):
        canvas.line([(x, y), (x + 0.006, y - 0.022)], 0.003, shade(colour, 0.75))


def _grain(canvas: Canvas, top: float, bottom: float, colour: RGB, count: int) -> None:
    for x, y in canvas.rng.uniform((0, top), (1, bottom), (count, 2)):
        canvas.oval(x, y, 0.003, 0.002, colour)


def _city(canvas: Canvas, scene: Scene) -> None:
    for shades, low, high in (((140, 156, 182), 0.3, 0.5), ((96, 104, 124), 0.16, 0.4)):
        x = -0.03
        while x < 1:
            wide, high_now = canvas.rng.uniform(0.12, 0.2), canvas.rng.uniform(low, high)
            colour = shade(shades, canvas.rng.uniform(0.8, 1.2))
            _tower(canvas, x, scene.horizon, wide, high_now, colour)
            x += wide + canvas.rng.uniform(0, 0.05)
    _street(canvas, scene.horizon)


def _tower(canvas: Canvas, x: float, foot: float, wide: float, high: float, colour: RGB) -> None:
    canvas.polygon([(x, foot), (x + wide, foot), (x + wide, foot - high), (x, foot - high)], colour)
    dark = canvas.light != "day"
    rows, columns = int(high / 0.045), int(wide / 0.04)
    for row, column in np.ndindex(rows, columns):
        lamp = dark and canvas.rng.random() < 0.55
        pane: RGB = (255, 222, 130) if lamp else shade(colour, 0.72 if dark else 1.3)
        left, top = x + 0.012 + column * (wide - 0.016) / columns, foot - high + 0.015 + 0.045 * row
        canvas.polygon(
            [(left, top), (left + 0.02, top), (left + 0.02, top + 0.024), (left, top + 0.024)], pane, lit=lamp
        )


def _street(canvas: Canvas, top: float) -> None:
    canvas.gradient(top, top + 0.05, [(168, 164, 160), (150, 146, 142)])
    canvas.gradient(top + 0.05, 1.0, [(92, 92, 98), (74, 74, 80)])
    for x in np.arange(0, 1.1, 0.2):
        canvas.polygon([(x, 0.91), (x + 0.1, 0.91), (x + 0.09, 0.925), (x - 0.01, 0.925)], (236, 232, 214))


def _village(canvas: Canvas, scene: Scene) -> None:
    _hills(canvas, scene.horizon - 0.12, ((112, 150, 92), (96, 140, 80)))
    for x in (0.17, 0.5, 0.83):
        colour = COLOURS[canvas.rng.integers(len(COLOURS))]
        _plant(canvas, x, scene.horizon + 0.01, canvas.rng.uniform(0.32, 0.4), colour, house)
    _street(canvas, scene.horizon)


def _macro(canvas: Canvas, scene: Scene) -> None:
    canvas.gradient(0, 1, [(70, 128, 58), (104, 160, 74), (46, 96, 48)])
    _bokeh(canvas, (176, 214, 130))


def _studio(canvas: Canvas, scene: Scene) -> None:
    wall = COLOURS[canvas.rng.integers(len(COLOURS))]
    pale = shade(((wall[0] + 200) // 2, (wall[1] + 190) // 2, (wall[2] + 180) // 2), 0.85)
    canvas.gradient(0, scene.horizon, [pale, shade(pale, 0.8)])
    canvas.gradient(scene.horizon, 1, [(156, 110, 74), (126, 86, 56)])
    _bokeh(canvas, shade(pale, 1.2))


def _bokeh(canvas: Canvas, colour: RGB) -> None:
    mask = Image.new("L", (112, 112))
    pen = ImageDraw.Draw(mask)
    for x, y, size in canvas.rng.random((14, 3)):
        r = 4 + 9 * size
        pen.ellipse((112 * x - r, 90 * y - r, 112 * x + r, 90 * y + r), fill=int(40 + 90 * size))
    canvas.haze(mask.filter(ImageFilter.GaussianBlur(1)), colour)


SKY_EXTRAS = {"stars": _stars, "moon": _moon, "sun": _sun, "rainbow": _rainbow, "clouds": _clouds}
GROUNDS: Mapping[str, Callable[[Canvas, Scene], None]] = MappingProxyType(
    {
        "sea": _sea,
        "lake": _lake,
        "mountain": _mountain,
        "snow": _snow,
        "forest": _forest,
        "field": _field,
        "city": _city,
        "village": _village,
        "desert": _desert,
        "macro": _macro,
        "studio": _studio,
    }
)
