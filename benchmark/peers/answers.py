"""Requests and answers over HTTP. Imports only numpy, because servers in other environments import it."""

from collections.abc import Sequence

import numpy as np

ANSWERED_TAGS = 5

Answer = list[tuple[str, float]]
"""Tags and scores, best first; in JSON a list of pairs."""


def write_body(image: np.ndarray, counts: np.ndarray) -> bytes:
    """Encode uint8 [1, 224, 224, 3] and float32 [1, N] as raw bytes, which are far fewer than JSON lists."""
    return image.tobytes() + counts.tobytes()


def read_bodies(bodies: Sequence[bytes | np.ndarray], image_dims: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Decode bodies to images uint8 [batch, *image_dims] and tag counts float32 [batch, N]."""
    size = int(np.prod(image_dims))
    images = np.stack([np.frombuffer(body, np.uint8, size).reshape(image_dims) for body in bodies])
    return images, np.stack([np.frombuffer(body, np.float32, offset=size) for body in bodies])


def best(scores: np.ndarray, tags: Sequence[str]) -> Answer:
    """Find the best tags by scores [N], rounded to as many decimals as in Triton's answers."""
    top = np.argpartition(-scores, ANSWERED_TAGS)[:ANSWERED_TAGS]
    return [(tags[i], round(float(scores[i]), 6)) for i in top[np.argsort(-scores[top])]]
