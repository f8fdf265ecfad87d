"""Plants, buildings and vehicles, each drawn by a brush from its foot, one unit high."""

import numpy as np

from training.data.drawing.canvas import Brush, shade
from training.data.drawing.catalogue import RGB

BARK: RGB = (104, 72, 46)
GLASS: RGB = (172, 208, 226)
LAMP: RGB = (255, 224, 130)


def tree(brush: Brush, colour: RGB) -> None:
    """Draw a leafy tree with a crown of overlapping balls, lighter at the top."""
    brush.polygon([(-0.06, 0), (0.06, 0), (0.035, 0.45), (-0.035, 0.45)], BARK)
    for x, y, r, light in (
        (-0.2, 0.48, 0.2, 0.8),
        (0.2, 0.5, 0.2, 0.85),
        (0, 0.62, 0.27, 1.0),
        (0.06, 0.8, 0.19, 1.12),
    ):
        dx, dy = brush.rng.normal(0, 0.02, 2)
        brush.oval(x + dx, y + dy, r, r * 0.92, shade(colour, light))
    for x, y in brush.rng.normal((0, 0.64), (0.16, 0.12), (16, 2)):
        brush.oval(x, y, 0.03, 0.024, shade(colour, 1.25))


def pine(brush: Brush, colour: RGB) -> None:
    """Draw a conifer of three tiers."""
    brush.box(-0.04, 0, 0.04, 0.2, BARK)
    for bottom, wide, light in ((0.14, 0.3, 0.8), (0.38, 0.24, 0.95), (0.62, 0.17, 1.1)):
        top = bottom + 0.38
        brush.polygon([(-wide, bottom), (wide, bottom), (0, top)], shade(colour, light))
        brush.polygon([(0, bottom), (wide, bottom), (0, top)], shade(colour, 0.85 * light))


def palm(brush: Brush, colour: RGB) -> None:
    """Draw a leaning palm with seven hanging leaves."""
    lean = 0.16
    brush.line([(0, 0), (0.03, 0.3), (lean * 0.6, 0.55), (lean, 0.78)], 0.06, (150, 112, 72))
    for angle in np.linspace(-0.5, 3.6, 7) + brush.rng.uniform(-0.12, 0.12):
        x, y = np.cos(angle), np.sin(angle)
        middle, tip = (lean + 0.2 * x, 0.82 + 0.14 * y), (lean + 0.38 * x, 0.72 + 0.14 * y)
        brush.polygon([(lean, 0.8), (middle[0], middle[1] + 0.06), tip, (middle[0], middle[1] - 0.04)], colour)
    brush.oval(lean, 0.76, 0.035, 0.035, (110, 70, 40))


def cactus(brush: Brush, colour: RGB) -> None:
    """Draw a saguaro with two arms."""
    brush.line([(-0.26, 0.62), (-0.26, 0.4), (0, 0.36)], 0.11, shade(colour, 0.85))
    brush.line([(0.24, 0.76), (0.24, 0.54), (0, 0.5)], 0.11, shade(colour, 0.85))
    brush.box(-0.09, 0, 0.09, 0.9, colour)
    brush.oval(0, 0.9, 0.09, 0.1, colour)
    for x in (-0.04, 0.04):
        brush.line([(x, 0.04), (x, 0.92)], 0.012, shade(colour, 0.7))


def flower(brush: Brush, colour: RGB) -> None:
    """Draw one blossom on a stem."""
    brush.line([(0, 0), (0.03, 0.35), (0, 0.62)], 0.045, (58, 122, 50))
    brush.polygon([(0.02, 0.18), (0.2, 0.34), (0.26, 0.24), (0.12, 0.14)], (74, 146, 60))
    petals = int(brush.rng.integers(6, 10))
    for angle in np.arange(petals) * 2 * np.pi / petals + brush.rng.uniform(0, 1):
        brush.oval(0.2 * np.cos(angle), 0.66 + 0.2 * np.sin(angle), 0.125, 0.125, shade(colour, 0.85))
        brush.oval(0.18 * np.cos(angle), 0.66 + 0.18 * np.sin(angle), 0.1, 0.1, colour)
    brush.oval(0, 0.66, 0.13, 0.13, (242, 196, 60) if colour[2] > 90 or colour[1] < 120 else (120, 76, 40))


def meadow_flower(brush: Brush, colour: RGB) -> None:
    """Draw five flowers."""
    for x, y, size in ((-0.5, 0.1, 0.8), (0.45, 0.14, 0.85), (-0.2, 0.0, 1.0), (0.15, -0.05, 0.95), (0.75, 0.0, 0.75)):
        flower(brush.part(x, y, size), colour)


def house(brush: Brush, colour: RGB) -> None:
    """Draw a house with a gable roof; its windows are lit after dark."""
    dark = brush.canvas.light != "day"
    pane = LAMP if dark else GLASS
    brush.box(0.18, 0.7, 0.3, 1.0, (140, 80, 66))
    brush.box(-0.44, 0, 0.44, 0.56, colour)
    brush.box(0.2, 0, 0.44, 0.56, shade(colour, 0.88))
    brush.polygon([(-0.54, 0.54), (0.54, 0.54), (0.3, 0.94), (-0.3, 0.94)], (150, 66, 52))
    brush.box(-0.09, 0, 0.1, 0.34, (96, 62, 42))
    for x in (-0.32, 0.22):
        brush.box(x - 0.02, 0.2, x + 0.16, 0.42, (240, 238, 230))
        brush.box(x, 0.22, x + 0.14, 0.4, pane, lit=dark)


def car(brush: Brush, colour: RGB) -> None:
    """Draw a car from the side."""
    brush.polygon([(-0.55, 0.55), (-0.32, 0.98), (0.35, 0.98), (0.62, 0.55)], colour)
    brush.polygon([(-0.42, 0.58), (-0.27, 0.88), (-0.02, 0.88), (-0.02, 0.58)], GLASS)
    brush.polygon([(0.05, 0.58), (0.05, 0.88), (0.31, 0.88), (0.48, 0.58)], GLASS)
    brush.polygon([(-0.98, 0.2), (-0.96, 0.56), (0.9, 0.56), (1.0, 0.42), (1.0, 0.2)], shade(colour, 0.92))
    brush.oval(0.95, 0.42, 0.06, 0.06, LAMP, lit=True)
    for x in (-0.56, 0.56):
        brush.oval(x, 0.2, 0.22, 0.22, (36, 36, 40))
        brush.oval(x, 0.2, 0.1, 0.1, (190, 190, 196))


def boat(brush: Brush, colour: RGB) -> None:
    """Draw a sailing boat."""
    brush.polygon([(-0.4, 0.18), (0.46, 0.18), (0.32, 0.0), (-0.3, 0.0)], colour)
    brush.box(-0.4, 0.15, 0.44, 0.19, (250, 246, 236))
    brush.line([(0, 0.18), (0, 1.0)], 0.025, BARK)
    brush.polygon([(0.04, 0.24), (0.04, 0.98), (0.42, 0.26)], (252, 250, 242))
    brush.polygon([(-0.04, 0.24), (-0.04, 0.86), (-0.3, 0.26)], shade(colour, 1.15))
    brush.line([(-0.5, -0.02), (0.5, -0.02)], 0.03, (236, 244, 248))


def umbrella(brush: Brush, colour: RGB) -> None:
    """Draw a striped parasol."""
    brush.line([(0, 0), (0, 0.95)], 0.035, (236, 230, 220))
    angles = np.linspace(0, np.pi, 9)
    rim = [(0.56 * np.cos(a), 0.52 + 0.46 * np.sin(a)) for a in angles]
    for stripe in range(8):
        wedge = [rim[stripe], rim[stripe + 1], (0, 0.52)]
        brush.polygon(wedge, colour if stripe % 2 else (250, 246, 238))


def balloon(brush: Brush, colour: RGB) -> None:
    """Draw a striped hot air balloon."""
    brush.polygon([(-0.2, 0.4), (0.2, 0.4), (0.08, 0.18), (-0.08, 0.18)], shade(colour, 0.8))
    brush.oval(0, 0.65, 0.35, 0.35, colour)
    brush.oval(0, 0.65, 0.23, 0.35, (250, 240, 220))
    brush.oval(0, 0.65, 0.11, 0.35, colour)
    for x in (-0.07, 0.07):
        brush.line([(x, 0.2), (x * 0.8, 0.1)], 0.012, BARK)
    brush.box(-0.08, 0, 0.08, 0.11, (140, 98, 58))
