"""Draw scenes as 224x224 pictures: the backdrop, objects from far to near, then the imperfections of a camera."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageFilter

from training.data.drawing import creatures, things
from training.data.drawing.backdrop import draw_backdrop
from training.data.drawing.canvas import PICTURE_SIDE, Brush, Canvas
from training.data.drawing.catalogue import RGB, SETTINGS
from training.data.drawing.scene import Scene, Thing, compose_scene

__all__ = ["SETTINGS", "Scene", "Thing", "compose_scene", "draw"]

THINGS: Mapping[str, Callable[[Brush, RGB], None]] = MappingProxyType(
    {
        "tree": things.tree,
        "pine": things.pine,
        "palm": things.palm,
        "cactus": things.cactus,
        "flower": things.flower,
        "meadow_flower": things.meadow_flower,
        "house": things.house,
        "car": things.car,
        "boat": things.boat,
        "umbrella": things.umbrella,
        "balloon": things.balloon,
        "person": creatures.person,
        "people": creatures.people,
        "dog": creatures.dog,
        "cat": creatures.cat,
        "horse": creatures.horse,
        "sheep": creatures.sheep,
        "bird": creatures.bird,
    }
)


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Draw a scene as an RGB image of 224x224; `rng` determines textures and noise."""
    canvas = Canvas(scene.light, rng)
    draw_backdrop(canvas, scene)
    for thing in scene.things:
        THINGS[thing.kind](Brush(canvas, thing.x, thing.y, thing.size, thing.mirrored), thing.colour)
    return _photograph(canvas.image, "bw" in scene.extras, rng)


def _photograph(image: Image.Image, monochrome: bool, rng: np.random.Generator) -> Image.Image:
    small = image.reduce(image.width // PICTURE_SIDE)
    if monochrome:
        small = small.convert("L").convert("RGB")
    soft = small.filter(ImageFilter.BoxBlur(float(rng.uniform(0.1, 0.6))))
    pixels = np.asarray(soft, dtype=np.float32)
    contrast, brightness = rng.uniform(0.85, 1.15), rng.uniform(-12, 12)
    grain = rng.random((PICTURE_SIDE, PICTURE_SIDE, 1 if monochrome else 3), dtype=np.float32) - np.float32(0.5)
    pixels = (
        (pixels - 128) * np.float32(contrast) + np.float32(128 + brightness) + grain * np.float32(rng.uniform(8, 24))
    )
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
