"""The canvas for a picture, with coordinates in shares of its side, and the brush that draws one object."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.data.drawing.catalogue import RGB

PICTURE_SIDE = 224
SIDE = 2 * PICTURE_SIDE
"""Twice the size of the saved picture, because Pillow's shapes have no smooth edges."""

TINTS = {"day": (1.0, 1.0, 1.0), "sunset": (0.90, 0.64, 0.56), "night": (0.40, 0.45, 0.66)}
Point = tuple[float, float]


class Canvas:
    """An RGB image of SIDE x SIDE; coordinates are shares of the side, y downwards; `lit` colours ignore the light."""

    def __init__(self, light: str, rng: np.random.Generator) -> None:
        """Create a black canvas for pictures in this light."""
        self.image = Image.new("RGB", (SIDE, SIDE))
        self.pen = ImageDraw.Draw(self.image)
        self.light = light
        self.rng = rng

    def tint(self, colour: RGB, lit: bool = False) -> RGB:
        """Return a colour as it looks in this light."""
        if lit:
            return colour
        red, green, blue = (int(value * share) for value, share in zip(colour, TINTS[self.light], strict=True))
        return red, green, blue

    def polygon(self, points: Sequence[Point], colour: RGB, *, lit: bool = False) -> None:
        """Fill a polygon."""
        self.pen.polygon([(x * SIDE, y * SIDE) for x, y in points], fill=self.tint(colour, lit))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB, *, lit: bool = False) -> None:
        """Fill an ellipse around (x, y)."""
        box = ((x - rx) * SIDE, (y - ry) * SIDE, (x + rx) * SIDE, (y + ry) * SIDE)
        self.pen.ellipse(box, fill=self.tint(colour, lit))

    def line(self, points: Sequence[Point], width: float, colour: RGB, *, lit: bool = False) -> None:
        """Draw a line through the points."""
        scaled = [(x * SIDE, y * SIDE) for x, y in points]
        self.pen.line(scaled, fill=self.tint(colour, lit), width=max(1, round(width * SIDE)), joint="curve")

    def gradient(self, top: float, bottom: float, colours: Sequence[RGB], *, lit: bool = False) -> None:
        """Fill the rows from `top` to `bottom` with a gradient through the colours."""
        first, last = round(top * SIDE), min(SIDE, round(bottom * SIDE))
        stops = np.linspace(0, 1, len(colours))
        steps = np.linspace(0, 1, last - first)
        tinted = np.array([self.tint(colour, lit) for colour in colours])
        rows = np.stack([np.interp(steps, stops, channel) for channel in tinted.T], axis=1)[:, None].astype(np.uint8)
        self.image.paste(Image.fromarray(rows).resize((SIDE, last - first)), (0, first))

    def mottle(self, top: float, bottom: float, colour: RGB, strength: float, cells: tuple[int, int]) -> None:
        """Add irregular patches of a colour between two heights, in a grid of `cells` (across, down)."""
        first, last = round(top * SIDE), min(SIDE, round(bottom * SIDE))
        noise = (self.rng.random((cells[1], cells[0])) ** 2 * 255 * strength).astype(np.uint8)
        mask = Image.fromarray(noise).resize((SIDE, last - first), Image.Resampling.BILINEAR)
        self.image.paste(self.tint(colour), (0, first, SIDE, last), mask)

    def haze(self, mask: Image.Image, colour: RGB) -> None:
        """Blend in a colour through a small soft mask that is scaled to the whole picture."""
        self.image.paste(colour, (0, 0), mask.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Brush:
    """Draws one object, with coordinates from its foot: x to the right, y upwards, 1 is its height."""

    canvas: Canvas
    x: float
    y: float
    size: float
    mirrored: bool

    @property
    def rng(self) -> np.random.Generator:
        """The canvas's random generator."""
        return self.canvas.rng

    def at(self, x: float, y: float) -> Point:
        """Convert the object's (x, y) to the canvas's coordinates."""
        return self.x + (-x if self.mirrored else x) * self.size, self.y - y * self.size

    def polygon(self, points: Sequence[Point], colour: RGB, *, lit: bool = False) -> None:
        """Fill a polygon."""
        self.canvas.polygon([self.at(*point) for point in points], colour, lit=lit)

    def box(self, left: float, bottom: float, right: float, top: float, colour: RGB, *, lit: bool = False) -> None:
        """Fill a rectangle."""
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], colour, lit=lit)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB, *, lit: bool = False) -> None:
        """Fill an ellipse around (x, y)."""
        self.canvas.oval(*self.at(x, y), rx * self.size, ry * self.size, colour, lit=lit)

    def line(self, points: Sequence[Point], width: float, colour: RGB, *, lit: bool = False) -> None:
        """Draw a line through the points."""
        self.canvas.line([self.at(*point) for point in points], width * self.size, colour, lit=lit)

    def part(self, x: float, y: float, size: float) -> "Brush":
        """Return a brush for a smaller object whose foot is at (x, y) of this one."""
        return Brush(self.canvas, *self.at(x, y), size * self.size, self.mirrored)


def shade(colour: RGB, by: float) -> RGB:
    """Return a darker (`by` below 1) or lighter colour."""
    red, green, blue = (max(0, min(255, round(value * by))) for value in colour)
    return red, green, blue
