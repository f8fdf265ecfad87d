"""What a written picture shows."""

from pathlib import Path

import numpy as np
from PIL import Image


def count(picture: Path, colour: str) -> int:
    """Pixels of exactly this colour, `#rrggbb`."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    return int((pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum())
