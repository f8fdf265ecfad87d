"""What is asked and answered over HTTP, in numpy alone. Imported by servers in other environments too."""

from collections.abc import Sequence

import numpy as np

ANSWERED_TAGS = 5

Answer = list[tuple[str, float]]
"""Tag and score, best first; a list of pairs in JSON."""


def write_body(image: np.ndarray, history: np.ndarray) -> bytes:
    """The bytes of uint8 [1, 224, 224, 3], then those of float32 [1, N]: lists in JSON would be far more."""
    return image.tobytes() + history.tobytes()


def read_bodies(bodies: Sequence[bytes | np.ndarray], image_dims: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [batch, *image_dims] and histories float32 [batch, N]."""
    size = int(np.prod(image_dims))
    images = np.stack([np.frombuffer(body, np.uint8, size).reshape(image_dims) for body in bodies])
    return images, np.stack([np.frombuffer(body, np.float32, offset=size) for body in bodies])


def best(scores: np.ndarray, tags: Sequence[str]) -> Answer:
    """The best of scores [N], with as many decimals as Triton gives."""
    top = np.argpartition(-scores, ANSWERED_TAGS)[:ANSWERED_TAGS]
    return [(tags[i], round(float(scores[i]), 6)) for i in top[np.argsort(-scores[top])]]
