"""People and animals, each drawn by a brush from its foot, one unit high, facing right."""

import numpy as np

from training.data.drawing.canvas import Brush, shade
from training.data.drawing.catalogue import COLOURS, RGB

SKIN: tuple[RGB, ...] = ((244, 206, 172), (222, 172, 130), (164, 112, 76), (110, 72, 50))
HAIR: tuple[RGB, ...] = ((48, 34, 26), (112, 70, 36), (214, 170, 92), (150, 60, 34))
TROUSERS: tuple[RGB, ...] = ((48, 66, 110), (60, 60, 66), (120, 96, 70))
INK: RGB = (34, 30, 32)


def person(brush: Brush, colour: RGB) -> None:
    """Draw a person who stands and waves."""
    skin, hair = SKIN[brush.rng.integers(len(SKIN))], HAIR[brush.rng.integers(len(HAIR))]
    trousers = TROUSERS[brush.rng.integers(len(TROUSERS))]
    for x in (-0.07, 0.07):
        brush.line([(x, 0.02), (x, 0.42)], 0.09, trousers)
        brush.oval(x + 0.02, 0.02, 0.06, 0.03, INK)
    brush.line([(0.11, 0.66), (0.2, 0.5), (0.2, 0.4)], 0.055, shade(colour, 0.85))
    brush.line([(-0.11, 0.66), (-0.22, 0.74), (-0.24, 0.88)], 0.055, shade(colour, 0.85))
    brush.oval(-0.24, 0.9, 0.035, 0.035, skin)
    brush.oval(0.2, 0.39, 0.035, 0.035, skin)
    brush.polygon([(-0.14, 0.38), (0.14, 0.38), (0.13, 0.7), (-0.13, 0.7)], colour)
    brush.oval(0, 0.87, 0.115, 0.125, hair)
    brush.oval(0.01, 0.84, 0.095, 0.1, skin)
    for x in (-0.025, 0.05):
        brush.oval(x, 0.85, 0.013, 0.016, INK)
    brush.line([(-0.02, 0.795), (0.015, 0.785), (0.05, 0.795)], 0.012, (180, 70, 70))


def people(brush: Brush, colour: RGB) -> None:
    """Draw three friends side by side."""
    for x, size in ((-0.42, 0.9), (0.42, 0.92), (0.0, 1.0)):
        person(brush.part(x, 0, size), COLOURS[brush.rng.integers(len(COLOURS))] if x else colour)


def dog(brush: Brush, colour: RGB) -> None:
    """Draw a dog from the side, with its tail up."""
    dark = shade(colour, 0.72)
    brush.line([(-0.46, 0.52), (-0.6, 0.72), (-0.56, 0.88)], 0.08, colour)
    for x, tone in ((-0.36, dark), (0.3, dark), (-0.26, colour), (0.2, colour)):
        brush.line([(x, 0.03), (x, 0.4)], 0.11, tone)
    brush.oval(-0.04, 0.46, 0.46, 0.2, colour)
    brush.polygon([(0.18, 0.5), (0.42, 0.36), (0.6, 0.7), (0.36, 0.84)], colour)
    brush.oval(0.48, 0.78, 0.2, 0.18, colour)
    brush.oval(0.66, 0.7, 0.15, 0.1, shade(colour, 1.15))
    brush.oval(0.78, 0.73, 0.05, 0.045, INK)
    brush.oval(0.36, 0.72, 0.085, 0.17, dark)
    brush.oval(0.54, 0.83, 0.032, 0.032, INK)
    brush.line([(0.27, 0.6), (0.46, 0.56)], 0.06, (214, 57, 57))


def cat(brush: Brush, colour: RGB) -> None:
    """Draw a sitting cat that faces the viewer."""
    dark, pale = shade(colour, 0.72), shade(colour, 1.25)
    brush.line([(0.2, 0.06), (0.44, 0.1), (0.48, 0.34), (0.4, 0.46)], 0.09, dark)
    brush.oval(0, 0.28, 0.27, 0.3, colour)
    brush.oval(0, 0.24, 0.14, 0.22, pale)
    for x in (-0.1, 0.1):
        brush.oval(x, 0.04, 0.09, 0.05, pale)
        brush.polygon([(x * 2.4, 0.98), (x * 0.4, 0.84), (x * 2.3, 0.7)], colour)
        brush.polygon([(x * 2.1, 0.91), (x * 1.0, 0.83), (x * 2.0, 0.76)], (226, 150, 150))
    brush.oval(0, 0.7, 0.25, 0.2, colour)
    for x in (-0.07, 0, 0.07):
        brush.line([(x, 0.89), (x * 0.8, 0.8)], 0.03, dark)
    for side in (-1, 1):
        brush.oval(0.1 * side, 0.72, 0.05, 0.05, (190, 214, 90))
        brush.oval(0.1 * side, 0.72, 0.018, 0.045, INK)
        for rise in (-0.02, 0.02):
            brush.line([(0.06 * side, 0.63), (0.32 * side, 0.63 + 2 * rise)], 0.008, (246, 244, 240))
    brush.polygon([(-0.03, 0.66), (0.03, 0.66), (0, 0.62)], (214, 110, 120))


def horse(brush: Brush, colour: RGB) -> None:
    """Draw a horse from the side."""
    dark = shade(colour, 0.62)
    brush.line([(-0.42, 0.62), (-0.54, 0.5), (-0.54, 0.24)], 0.07, dark)
    for x, tone in ((-0.34, dark), (0.26, dark), (-0.26, colour), (0.18, colour)):
        brush.line([(x, 0.05), (x, 0.42)], 0.075, tone)
        brush.box(x - 0.04, 0, x + 0.05, 0.05, INK)
    brush.oval(-0.05, 0.52, 0.4, 0.17, colour)
    brush.polygon([(0.12, 0.56), (0.32, 0.44), (0.5, 0.84), (0.32, 0.94)], colour)
    brush.polygon([(0.08, 0.64), (0.2, 0.6), (0.36, 0.92), (0.3, 0.97)], dark)
    brush.polygon([(0.34, 0.94), (0.46, 0.94), (0.68, 0.74), (0.62, 0.66), (0.42, 0.76)], colour)
    brush.polygon([(0.34, 0.92), (0.37, 1.02), (0.42, 0.92)], colour)
    brush.oval(0.46, 0.86, 0.02, 0.02, INK)


def sheep(brush: Brush, colour: RGB) -> None:
    """Draw a sheep from the side."""
    for x in (-0.3, -0.18, 0.2, 0.32):
        brush.line([(x, 0), (x, 0.4)], 0.08, INK)
    for angle in np.linspace(0, 2 * np.pi, 11):
        brush.oval(
            0.36 * np.cos(angle), 0.58 + 0.2 * np.sin(angle), 0.17, 0.17, shade(colour, 0.9 + 0.1 * np.sin(angle))
        )
    brush.oval(0, 0.6, 0.4, 0.24, colour)
    brush.oval(0.52, 0.66, 0.15, 0.19, (62, 54, 54))
    brush.oval(0.38, 0.74, 0.1, 0.05, (62, 54, 54))
    brush.oval(0.5, 0.84, 0.13, 0.09, colour)
    brush.oval(0.56, 0.7, 0.026, 0.026, (250, 250, 250))


def bird(brush: Brush, colour: RGB) -> None:
    """Draw a flying gull, and two more behind it."""
    for x, y, size in ((-0.9, 0.5, 0.36), (0.85, 0.62, 0.3), (0.0, 0.0, 1.0)):
        _gull(brush.part(x, y, size), colour)


def _gull(brush: Brush, colour: RGB) -> None:
    wing = shade(colour, 0.75)
    brush.polygon([(0.1, 0.4), (0.06, 0.66), (0.2, 0.92), (0.5, 1.0), (0.38, 0.7), (0.3, 0.4)], wing)
    brush.polygon([(-0.6, 0.22), (-0.66, 0.42), (-0.2, 0.42), (-0.2, 0.28)], wing)
    brush.oval(0, 0.36, 0.36, 0.13, colour)
    brush.oval(0.36, 0.45, 0.14, 0.13, colour)
    brush.polygon([(0.47, 0.5), (0.47, 0.4), (0.66, 0.44)], (240, 160, 50))
    brush.polygon(
        [(-0.16, 0.4), (-0.26, 0.7), (-0.2, 0.9), (-0.04, 1.04), (0.06, 0.72), (0.16, 0.4)], shade(colour, 0.9)
    )
    brush.oval(0.4, 0.48, 0.028, 0.028, INK if colour[1] > 128 else (250, 250, 250))
